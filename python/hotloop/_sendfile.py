"""loop.sendfile() of what the kernel does not send by itself: asyncio's, which looks at the class of
the transport."""

import types
from asyncio import base_events, transports

from . import _core
from ._borrowed import with_globals

_Stock = base_events._SendfileFallbackProtocol


class _FallbackProtocol(_Stock):
    __init__ = with_globals(
        _Stock.__init__,
        transports=types.SimpleNamespace(
            _FlowControlMixin=(transports._FlowControlMixin, _core.Stream)
        ),
    )


fallback = with_globals(
    base_events.BaseEventLoop._sendfile_fallback, _SendfileFallbackProtocol=_FallbackProtocol
)
