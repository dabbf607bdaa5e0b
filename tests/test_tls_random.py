"""Random programs over TLS, against a peer that does step by step what it is told: asyncio's events."""

import asyncio
import contextlib
import ssl

from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Events, TransportProgram, on_loop, raw_pair, small_buffers
from support import Logged, outcome, same_on_both

RECORD = 16 * 1024


class Peer:
    """The other end: an SSLObject over a socket, which sends and receives only when told to."""

    def __init__(self, sock, context, server_side):
        self.sock = sock
        sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)
        self.unsent = b""
        self.counted = 0  # bytes made for sending
        self.received = b""

    async def shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                return self.send()
            except ssl.SSLWantReadError:
                self.send()
                self.receive()
                await asyncio.sleep(0.0001)

    def send(self, most=None):
        """Send what is encrypted, or its first bytes only."""
        self.unsent += self.outgoing.read()
        part = self.unsent[:most]
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self.unsent = self.unsent[self.sock.send(part) :]

    def receive(self):
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.sock.recv(1 << 20):
                self.incoming.write(data)
            self.incoming.write_eof()

    def write(self, sizes, most=None):
        for size in sizes:
            start, self.counted = self.counted, self.counted + size
            self.tls.write(bytes(i % 251 for i in range(start, start + size)))
        self.send(most)

    def read(self):
        """All there is; returns how it ended."""
        self.receive()
        try:
            while data := self.tls.read(1 << 20):
                self.received += data
            return "close_notify"
        except ssl.SSLError as exc:
            return type(exc).__name__

    def unwrap(self):
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.send()


class BufferedEvents(Events, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        # No bytearray: asyncio loses what it reads behind its beginning.
        self.buffer = memoryview(bytearray(self.size))
        return self.buffer

    def buffer_updated(self, count):
        data = bytes(self.buffer[:count])
        self.data += data
        self.did("data_received", data)


def make_protocol(room, log, sent, hooks):
    """A BufferedProtocol with a buffer of that size, or a Protocol."""
    protocol = (Events if room is None else BufferedEvents)(log, **hooks)
    protocol.size, protocol.sent = room, sent
    return protocol


SIZES = st.one_of(st.integers(1, 3000), st.integers(1, 5 * RECORD), st.just(RECORD))
PEER_SIZES = st.one_of(st.lists(SIZES, min_size=1, max_size=4), st.just([4 * RECORD] * 6))
ROOMS = st.sampled_from([None, 100, 700, RECORD, 1 << 20])
LIMITS = st.one_of(st.just(0), st.integers(0, 60_000))
STEPS = st.one_of(
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("writelines"), st.lists(st.one_of(SIZES, st.just(0)), max_size=4)),
    st.tuples(st.just("limits"), LIMITS, LIMITS),
    st.tuples(st.just("pause_reading")),
    st.tuples(st.just("resume_reading")),
    st.tuples(st.just("protocol"), ROOMS),
    st.tuples(st.just("peer writes"), PEER_SIZES, st.none()),
    st.tuples(st.just("peer writes"), PEER_SIZES, st.none()),
    st.tuples(st.just("peer writes"), PEER_SIZES, st.integers(1, 40_000)),
    st.tuples(st.just("peer sends")),
    st.tuples(st.just("peer reads")),
    st.tuples(st.just("peer reads")),
)
ENDS = st.sampled_from(["close", "abort", "peer unwraps", "peer closes", "peer shuts down", "garbage"])
HOOKS = st.sampled_from([None, None, None, "echo", "echo", "close", "abort", "pause_reading", "raise"])


def hooked(what):
    def hook(protocol, data):
        if what == "raise":
            raise LookupError("on purpose")
        if what == "echo":
            protocol.sent += data[:1000]
            protocol.transport.write(data[:1000])
        else:
            getattr(protocol.transport, what)()

    return {} if what is None else {"data_received": hook}


class Program(TransportProgram):
    def __init__(self, protocol, transport, peer, hooks):
        super().__init__(protocol, transport, peer.sock)
        self.peer, self.hooks = peer, hooks

    def next_bytes(self, size):
        start = len(self.protocol.sent)
        self.protocol.sent += bytes(i % 241 for i in range(start, start + size))
        return bytes(self.protocol.sent[start:])

    def step(self, name, *args):
        if name == "protocol":
            self.change_protocol(*args)
        elif name == "peer writes":
            self.peer.write(*args)
        elif name == "peer sends":
            self.peer.send()
        elif name == "peer reads":
            return self.peer.read()
        else:
            super().step(name, *args)

    def change_protocol(self, room):
        before = self.protocol
        self.protocol = make_protocol(room, before.log, before.sent, self.hooks)
        self.protocol.transport = self.transport
        self.transport.set_protocol(self.protocol)

    def end(self, how):
        if how == "peer unwraps":
            self.peer.unwrap()
        elif how == "garbage":
            self.sock.send(b"no TLS at all" * 10)
        else:
            super().end(how)

    def take_log(self):
        """What happened since; data that came in several pieces in a row as one."""
        log, taken = self.protocol.log, []
        for entry in log:
            if entry[0] == "data_received" and taken and taken[-1][0] == "data_received":
                taken[-1] = ("data_received", taken[-1][1] + entry[1])
            else:
                taken.append(entry)
        log.clear()
        return taken


async def settle(log):
    """Until nothing comes any more."""
    before = -1
    while len(log) != before:
        before = len(log)
        for _ in range(3):
            await asyncio.sleep(0.0005)


async def run_program(contexts, server_side, room, hook, steps, end):
    loop = asyncio.get_running_loop()
    ours, theirs = raw_pair()
    small_buffers(ours)
    peer = Peer(theirs, contexts[not server_side], not server_side)
    hooks = hooked(hook)
    protocol = make_protocol(room, [], bytearray(), hooks)
    greeting = asyncio.ensure_future(peer.shake_hands())
    if server_side:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours, ssl=contexts[True])
    else:
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=ours, ssl=contexts[False], server_hostname="localhost"
        )
    await greeting
    below = transport._ssl_protocol._transport
    program = Program(protocol, transport, peer, hooks)
    history = []
    for step in [*steps, ("end", end)]:
        if step[0] == "end":
            result = outcome(program.end, end)
        else:
            result = outcome(program.step, *step)
        await settle(protocol.log)
        size = outcome(transport.get_write_buffer_size)
        closing = transport.is_closing(), len(peer.unsent)
        history.append((step, result, size, closing, program.take_log()))
    transport.abort()
    await settle(protocol.log)
    below.abort()  # asyncio's abort() does nothing once close() has been called twice
    assert protocol.sent.startswith(peer.received)
    theirs.close()
    await settle(protocol.log)
    return history, program.take_log()


@settings(max_examples=60)
@given(st.booleans(), ROOMS, HOOKS, st.lists(STEPS, min_size=3, max_size=12), ENDS)
def test_random_programs_have_the_events_of_asyncio(
    server_tls, client_tls, server_side, room, hook, steps, end
):
    contexts = {True: server_tls, False: client_tls}

    def scenario(impl):
        with Logged() as log:
            main = on_loop(lambda: run_program(contexts, server_side, room, hook, steps, end))
            return main(impl), log.messages()

    same_on_both(scenario)
