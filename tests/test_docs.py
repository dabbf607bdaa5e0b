"""docs/ is true: its programs run, and print what the page says; the table of methods is this Python's.

In a page, ```python is a complete program, and a ```text right after it is what it prints. Excerpts
and servers are ```py; tests/ecosystem starts the servers of the page on frameworks as printed.
"""

import importlib.util
import json
import re
import subprocess
import sys

import hotloop
import pytest
from support import ROOT, clean_environment

PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
EXCERPT = re.compile(r"^```py(?: .*)?\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```(?:py|python|sh)\b.*?^```\n|^    \S.*\n|`[^`\n]+`", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
# Not there on the newest Python.
ELSEWHERE = {"EventLoopPolicy"}

pytestmark = pytest.mark.skipif(not PAGES, reason="the docs are not beside the tests")


def programs():
    found = []
    for path in PAGES:
        text = path.read_text()
        for match in PROGRAM.finditer(text):
            line = text[: match.start()].count("\n") + 2
            found.append(pytest.param(match[1], match[2], id=f"{path.name}:{line}"))
    return found


def missing_packages(source):
    names = sorted(set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)))
    return [name for name in names if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("source, expected", programs())
def test_a_program_prints_what_its_page_says(source, expected, tmp_path):
    if missing := missing_packages(source):
        pytest.skip(f"not installed: {', '.join(missing)}")
    program = tmp_path / "program.py"  # a file, so that processes it starts can import it
    program.write_text(source)
    run = subprocess.run(
        [sys.executable, program],
        env=clean_environment(),
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    if expected is not None:
        assert run.stdout == expected


def test_pages_have_programs():
    """So that the test above can fail."""
    assert len(programs()) >= 8


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_excerpts_are_python(path):
    for match in EXCERPT.finditer(path.read_text()):
        compile(match[1], path.name, "exec")


def code_in(path):
    """What a page shows in type of one width: blocks and words."""
    return "\n".join(CODE.findall(path.read_text()))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_is_named_is_there(path):
    code = code_in(path)
    for name in re.findall(r"(?<![-\w])hotloop[.:]([A-Za-z_]\w+)", code):
        found = hasattr(hotloop, name) or importlib.util.find_spec(f"hotloop.{name}")
        assert found or name in ELSEWHERE, f"hotloop.{name}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^[ `]*make ([a-z][a-z-]*)", code, re.MULTILINE)) <= {*targets}
    for tool in re.findall(r"(?<![\w/])tools/([a-z][\w.-]*)", code):
        assert (ROOT / "tools" / tool).exists(), tool


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_the_table_of_methods_is_that_of_this_python():
    tool = ROOT / "tools" / "methods.py"
    spec = importlib.util.spec_from_file_location("methods", tool)
    methods = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(methods)
    version = ".".join(map(str, sys.version_info[:2]))
    if version not in methods.VERSIONS:
        pytest.skip(f"no column for Python {version}")
    assert json.dumps(methods.read_page()[version], indent=1) == json.dumps(
        methods.probe(), indent=1
    ), "run tools/methods.py"
