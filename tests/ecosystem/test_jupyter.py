"""Jupyter's kernel and IPython, whose cells may await."""

import json

import pytest
from programs import LIMIT, need, program

need("ipykernel")
need("jupyter_client")

CELL = """
import asyncio
async def tick():
    for n in range(3):
        await asyncio.sleep(0.01)
        yield n
print([n async for n in tick()])
print(type(asyncio.get_running_loop()).__module__.partition('.')[0])
"""


def execute(client, code):
    """What a cell prints, and how it ended."""
    printed = []
    reply = client.execute_interactive(
        code,
        timeout=LIMIT,
        output_hook=lambda message: printed.append(message["content"].get("text", "")),
    )
    return "".join(printed), reply["content"]["status"]


@pytest.mark.keeps_sockets  # zmq closes them a little later, in its thread
def test_kernel(loop, tmp_path):
    from jupyter_client import BlockingKernelClient
    from jupyter_client.connect import write_connection_file

    file, _ = write_connection_file(str(tmp_path / "kernel.json"))
    with program(loop.python("-m", "ipykernel_launcher", "-f", file)) as kernel:
        connection = json.loads((tmp_path / "kernel.json").read_text())
        kernel.wait_for_port(connection["hb_port"])
        client = BlockingKernelClient()
        client.load_connection_info(connection)
        client.start_channels()
        client.wait_for_ready(timeout=LIMIT)
        assert execute(client, CELL) == (f"[0, 1, 2]\n{loop.top_module}\n", "ok")
        # A task that lives from cell to cell.
        assert (
            execute(client, "task = asyncio.create_task(asyncio.sleep(0.05, 'slept'))")[1] == "ok"
        )
        assert execute(client, "print(await task)") == ("slept\n", "ok")
        assert execute(client, "1 / 0")[1] == "error"
        client.shutdown()
        kernel.process.wait(LIMIT)
        client.stop_channels()
        client.context.destroy()


def test_ipython(loop):
    code = "import asyncio; await asyncio.sleep(0.01); " + CELL.strip().splitlines()[-1]
    command = loop.python("-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code)
    with program(command) as running:
        assert running.process.wait(LIMIT) == 0, running.output()
        assert running.output().split()[-1] == loop.top_module, running.output()
