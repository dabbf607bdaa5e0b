import asyncio
from collections.abc import Callable
from typing import TypeVarTuple

from . import _core

_Ts = TypeVarTuple("_Ts")

class EventLoop(_core.Loop, asyncio.SelectorEventLoop):
    def __init__(self) -> None: ...
    def close(self) -> None: ...
    def add_signal_handler(
        self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> None: ...
    def remove_signal_handler(self, sig: int) -> bool: ...

Loop = EventLoop

def new_event_loop() -> EventLoop: ...
