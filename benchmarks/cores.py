"""Who runs on which processor core: the loop alone on one, what drives it on the others."""

import os

# Asked when the process starts, before it pins itself.
ALLOWED: frozenset[int] = frozenset(
    os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
)


def pin() -> None:
    """This process to one core, the last: interrupts tend to be handled on the first."""
    if ALLOWED:
        os.sched_setaffinity(0, {max(ALLOWED)})


def elsewhere() -> None:
    """This process (a child of a pinned one) to every other core, if there is another."""
    if ALLOWED:
        os.sched_setaffinity(0, ALLOWED - {max(ALLOWED)} or ALLOWED)
