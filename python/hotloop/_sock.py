"""sock_recv() and its relatives: coroutines around what src/sock.c does.

They are written in Python to be coroutines in every respect: asyncio's are, so that one that is
never awaited warns, and stacks, debuggers and inspect show them. What the core declines
(NotImplemented: debug mode, objects that are not exactly socket.socket, sockets with a timeout,
unusual arguments) is left to asyncio's own.
"""

import socket

from ._core import SocketWait


class SocketCalls:
    """What EventLoop has between the core and asyncio's loop."""

    async def sock_recv(self, sock, n):
        """Receive at most n bytes from the socket, when there are any."""
        outcome = self._start_recv(sock, n)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:
            return await super().sock_recv(sock, n)
        return outcome

    async def sock_recv_into(self, sock, buf):
        """Receive into a writable buffer; return how many bytes were written to it."""
        outcome = self._start_recv_into(sock, buf)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:
            return await super().sock_recv_into(sock, buf)
        return outcome

    async def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram of at most bufsize bytes; return it with the sender's address."""
        outcome = self._start_recvfrom(sock, bufsize)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:
            return await super().sock_recvfrom(sock, bufsize)
        return outcome

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into a writable buffer; return its length and the sender's address."""
        if not self._takes_socket(sock):
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        outcome = self._start_recvfrom_into(sock, buf, nbytes or len(buf))
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:  # len(buf) may have changed what it was
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        return outcome

    async def sock_sendall(self, sock, data):
        """Send all of data; after an error there is no telling how much of it was sent."""
        outcome = self._start_sendall(sock, data)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:
            return await super().sock_sendall(sock, data)
        return outcome

    async def sock_sendto(self, sock, data, address):
        """Send a datagram to the address; return how many bytes were sent."""
        outcome = self._start_sendto(sock, data, address)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:
            return await super().sock_sendto(sock, data, address)
        return outcome

    async def sock_accept(self, sock):
        """Accept a connection; return its socket, non-blocking, and the peer's address."""
        outcome = self._start_accept(sock)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:
            return await super().sock_accept(sock)
        return outcome

    async def sock_connect(self, sock, address):
        """Connect the socket to the address, resolving it first if it is an internet one."""
        if not self._takes_socket(sock):
            return await super().sock_connect(sock, address)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            _, _, _, _, address = resolved[0]
        outcome = self._start_connect(sock, address)
        if type(outcome) is SocketWait:
            await outcome
            return outcome.result()
        if outcome is NotImplemented:  # what it was may have changed while the name was looked up
            return await super().sock_connect(sock, address)
        return outcome
