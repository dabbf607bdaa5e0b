"""The progress bar: rich's, on a terminal; nothing where rich or the terminal is missing."""

import sys
from types import TracebackType
from typing import Any


class Progress:
    """A context: step() says what begins now, out of `total` steps."""

    def __init__(self, total: int) -> None:
        self.bar = make_bar() if sys.stderr.isatty() else None
        if self.bar:
            self.task = self.bar.add_task("", total=total)

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, text: str) -> None:
        if self.bar:
            self.bar.update(self.task, description=text)

    def done(self) -> None:
        if self.bar:
            self.bar.advance(self.task)


def make_bar() -> Any:
    """None where rich is missing."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    return progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
