"""The event loop policy, for Pythons that have them (until 3.15). Imported when first asked for."""

from asyncio import unix_events

from ._loop import EventLoop

# The name without a DeprecationWarning: 3.14 renamed the class.
_Base = getattr(unix_events, "_DefaultEventLoopPolicy", None) or unix_events.DefaultEventLoopPolicy


class EventLoopPolicy(_Base):
    """asyncio's default policy, but new loops are hotloop's."""

    _loop_factory = EventLoop


EventLoopPolicy.__module__ = "hotloop"
