"""Who runs on which processor core: the loop alone on one, what drives it on the others."""

import os
from contextlib import suppress

# Asked when the process starts, before it pins itself.
ALLOWED: frozenset[int] = frozenset(
    os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
)


def pin() -> None:
    """This process to one core, the last: interrupts tend to be handled on the first."""
    if ALLOWED:
        os.sched_setaffinity(0, {max(ALLOWED)})


def move_elsewhere(pid: int = 0) -> None:
    """A process (a child of a pinned one, or this one) to every other core, if there is another.
    From outside and not between fork and exec, where threads of the parent could be in the way."""
    if ALLOWED:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, ALLOWED - {max(ALLOWED)} or ALLOWED)
