"""Whether things still are what they were at import.

Programs put mocks, monitors and functions of their own in the place of methods, and asyncio calls those.
Where the core takes a shorter way it is asked here first whether anybody would see that.
"""

import operator
import socket


def is_method(owner, name, function):
    """Is owner.name this function, as a method?"""
    return getattr(getattr(owner, name, None), "__func__", None) is function


def methods(cls, names):
    """What the class itself has by these names."""
    return [vars(cls).get(name) for name in names]


_Socket, _accept = socket.socket, socket.socket.accept
_used = operator.attrgetter("recv", "recv_into", "send", "sendmsg", "shutdown")
_known = _used(_Socket)


def is_plain(sock):
    """Does it leave to socket.socket what our transports do by system calls?"""
    try:
        return _used(type(sock)) == _known
    except AttributeError:
        return False


def accepts_plainly(sock):
    """Do plain sockets come out of its accept()?"""
    return socket.socket is _Socket and is_plain(sock) and is_method(sock, "accept", _accept)
