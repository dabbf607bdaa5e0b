"""The loops to compare, as far as they are installed."""

import asyncio
import importlib
import importlib.metadata
import importlib.util

from .family import LoopFactory

NAMES = ("asyncio", "hotloop", "uvloop", "zuvloop", "rsloop", "rloop")


def installed() -> list[str]:
    return [name for name in NAMES if importlib.util.find_spec(name)]


def version(name: str) -> str:
    """Without importing it: some loops patch asyncio when imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"


def factory(name: str) -> LoopFactory:
    if name == "asyncio":
        return asyncio.new_event_loop
    return importlib.import_module(name).new_event_loop
