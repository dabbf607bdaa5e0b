"""granian, a server in Rust that runs the application's tasks on the loop it is given."""

import sys

from programs import free_port, need, program

need("granian")
need("fastapi")
need("httpx")
need("websockets")
from web_app import use, use_websocket  # noqa: E402

MAIN = """
import sys
from granian import Granian, loops

@loops.register("asyncio")
def build():
    import asyncio, hotloop
    loop = {factory}()
    asyncio.set_event_loop(loop)
    return loop

if __name__ == "__main__":
    Granian("web_app:app", port={port}, interface="asgi", loop="asyncio").serve()
"""


def test_registered_loop(loop, tmp_path):
    """The loop as granian's documentation has one added: registered in the program that starts it."""
    factory = loop.spelled.replace(":", ".")
    port = free_port()
    path = tmp_path / "main.py"
    path.write_text(MAIN.format(port=port, factory=factory))
    with program([sys.executable, path], env=with_here()) as server:
        server.wait_for_port(port)
        loop.run(use(f"http://127.0.0.1:{port}", loop.top_module))
        loop.run(use_websocket(f"ws://127.0.0.1:{port}"))
        server.stop()
        assert "Traceback" not in server.output(), server.output()


def with_here():
    import os

    from programs import HERE

    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
