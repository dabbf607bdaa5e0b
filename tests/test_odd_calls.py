"""No input from Python crashes the interpreter: a program of odd calls, random but for its seed.

More of it: `python tests/odd_calls.py SEED STEPS THREADS`, best with a debug interpreter, or a build that has
sanitizers.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, clean_environment

PROGRAM = Path(__file__).with_name("odd_calls.py")
STEPS = 10_000
ALLOCATOR = ":allocator_may_return_null=1"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(2))
def test_the_interpreter_survives_odd_calls(seed, threads, tmp_path):
    run = subprocess.run(
        [sys.executable, PROGRAM, str(seed), str(STEPS), str(threads)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60 * PATIENCE,
        # Some ask for all the memory there is: a sanitizer is to say no, as malloc() does.
        env=clean_environment(ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ALLOCATOR),
        cwd=tmp_path,
    )
    assert (run.returncode, run.stdout.splitlines()[-1:]) == (0, ["survived"]), run.stderr[-5000:]
