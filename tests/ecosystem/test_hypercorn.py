"""hypercorn: by its own serve() on any loop, and its command under `python -m hotloop`."""

import pytest
from programs import HERE, free_port, listens, need, program

need("hypercorn")
need("fastapi")
need("httpx")
need("websockets")
from web_app import use, use_websocket  # noqa: E402


def run(loop, command, port, scheme="http", **options):
    with program(command) as server:
        server.wait_for_port(port)
        host = "localhost" if scheme == "https" else "127.0.0.1"
        loop.run(use(f"{scheme}://{host}:{port}", loop.top_module, **options))
        if scheme == "http":
            loop.run(use_websocket(f"ws://127.0.0.1:{port}"))
        server.stop()
        text = server.output()
        assert text.count("lifespan begins") == text.count("lifespan ends") == 1, text
        assert "Traceback" not in text, text
        assert not listens(port)


def test_command(loop):
    """Without workers hypercorn runs in the process that hotloop was installed in."""
    port = free_port()
    bind = f"127.0.0.1:{port}"
    run(loop, loop.python("-m", "hypercorn", "-w", "0", "-b", bind, "web_app:app"), port)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_serve(loop, certificate, client_tls, http2):
    port = free_port()
    command = loop.python(HERE / "web_app.py", port, *certificate)
    run(loop, command, port, "https", tls=client_tls, http2=http2)
