"""docs/frameworks.md: its servers, started as printed but for the port, run on hotloop."""

import pathlib
import re
import shlex
import shutil
import sys

import pytest
from programs import free_port, need, program

need("fastapi")
httpx = need("httpx")

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"
TEXT = PAGE.read_text() if PAGE.exists() else ""
PORT = {"uvicorn": "--port {}", "gunicorn": "-b 127.0.0.1:{}", "hypercorn": "-b 127.0.0.1:{}"}
# In programs: what is printed, and what it becomes.
PORTS_IN_PROGRAMS = {
    "Config()": "Config.from_mapping(bind='127.0.0.1:{}')",
    "web.run_app(app, ": "web.run_app(app, host='127.0.0.1', port={}, ",
}

pytestmark = pytest.mark.skipif(not TEXT, reason="the docs are not beside the tests")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def commands():
    lines = "".join(blocks("sh")).splitlines()
    return [line for line in lines if " app:app" in line]


def servers():
    return [source for source in blocks("py") if any(text in source for text in PORTS_IN_PROGRAMS)]


@pytest.fixture
def folder(tmp_path):
    """The files that the page names."""
    for name, source in re.findall(r'^```py title="(.*?)"\n(.*?)^```', TEXT, re.M | re.S):
        (tmp_path / name).write_text(source)
    return tmp_path


def answer(command, port, folder):
    with program(command, cwd=folder) as server:
        server.wait_for_port(port)
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=30).text


@pytest.mark.parametrize("line", commands())
def test_a_command(line, folder):
    command = shlex.split(line)
    name = next(word for word in command if word in PORT)
    need(name)
    if "hotloop_worker" in line:
        need("uvicorn_worker", "uvicorn-worker")
    scripts = str(pathlib.Path(sys.executable).parent)
    command[0] = sys.executable if command[0] == "python" else shutil.which(name, path=scripts)
    port = free_port()
    command += PORT[name].format(port).split()
    said = re.search(r"^curl .*?: (.*)$", TEXT, re.MULTILINE)[1]
    assert answer(command, port, folder) == said == """{"loop":"<class 'hotloop.EventLoop'>"}"""


@pytest.mark.parametrize("source", servers(), ids=["hypercorn", "aiohttp"])
def test_a_program(source, folder):
    for module in re.findall(r"^(?:from|import) (hypercorn|aiohttp)\b", source, re.MULTILINE):
        need(module)
    port = free_port()
    for printed, ours in PORTS_IN_PROGRAMS.items():
        source = source.replace(printed, ours.format(port))
    (folder / "server.py").write_text(source)
    assert answer([sys.executable, "server.py"], port, folder) in (
        "hello",
        """{"loop":"<class 'hotloop.EventLoop'>"}""",
    )


def test_the_page_has_them():
    assert len(commands()) >= 4
    assert len(servers()) == 2
