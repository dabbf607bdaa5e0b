"""getaddrinfo() without a thread, where it has nobody to ask."""

import asyncio
import socket

_getaddrinfo = socket.getaddrinfo
_StockLoop = asyncio.SelectorEventLoop
_stock = _StockLoop.getaddrinfo


def answers_at_once(host, port):
    """Return whether socket.getaddrinfo(host, port, ...) cannot block, whatever else it is given.

    That is so if the host is None or a literal address and the port None or a number: whether they
    are is the first thing that every C library finds out, and for a literal it never goes on to
    ask name servers, even if the family is the wrong one. A name of a service may be asked of a
    directory server, so it is left to a thread, and so are the historical ways to write an IPv4
    address.
    """
    return (
        _is_number_or_none(port)
        and (host is None or _is_literal(host))
        # Functions that were put in their place may do anything.
        and socket.getaddrinfo is _getaddrinfo
        and _StockLoop.getaddrinfo is _stock
    )


def _is_number_or_none(port):
    # A C library may take a number that no int of its own can hold for a name.
    if port is None:
        return True
    if type(port) is int:
        return 0 <= port < 2**31
    return isinstance(port, (str, bytes)) and port.isascii() and port.isdigit() and len(port) <= 9


def _is_literal(host):
    if isinstance(host, bytes):
        host = host.decode("latin-1")
    if not isinstance(host, str) or not host.isascii():
        return False
    if ":" in host:
        family, (host, *_) = socket.AF_INET6, host.split("%", 1)
    else:
        family = socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True
