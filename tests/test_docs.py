"""docs/ is true: its programs run, and print what the page says; the table of methods is this Python's.

In a page, ```python is a complete program, and a ```text right after it is what it prints. Excerpts
and servers are ```py.
"""

import importlib.util
import json
import re
import subprocess
import sys

import pytest
from support import ROOT, clean_environment

PAGES = sorted((ROOT / "docs").glob("*.md"))
PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)

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
