"""getaddrinfo(): literal addresses are answered at once, and exactly as socket.getaddrinfo() does."""

import asyncio
import inspect
import itertools
import socket
import threading
from unittest import mock

import pytest
from hotloop._resolve import answers_at_once
from support import HOTLOOP, PATIENCE, normalise, outcome, same_on_both

HOSTS = [
    None,
    "127.0.0.1",
    b"127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    b"::1",
    "::",
    "2001:DB8::1",
    "::ffff:192.0.2.1",
    "fe80::1%lo",
    "fe80::1%1",
    "fe80::1%4294967296",
    "fe80::1%nowhere",
    "fe80::1%",
    "2001:db8::1%lo",
]
PORTS = [None, 0, 80, 65535, 65536, "0", "80", b"443", "0080", 2**31 - 1, "999999999"]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 99]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 99]
PROTOS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 99]
FLAGS = [
    0,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE,
    socket.AI_ADDRCONFIG,
    socket.AI_V4MAPPED,
    socket.AI_V4MAPPED | socket.AI_ALL,
    1 << 30,
]

# What takes a thread: names, of hosts or services; the old ways to write an address; what is wrong.
NOT_AT_ONCE = [
    ("localhost", 80),
    ("", 80),
    ("127.1", 80),
    ("0x7f000001", 80),
    ("127.0.0.1 ", 80),
    ("127.0.0.1%lo", 80),
    ("::1:", 80),
    ("%lo", 80),
    ("1.2.3.4\0", 80),
    ("\u0661.2.3.4", 80),
    (b"\xff", 80),
    ("127.0.0.1", "http"),
    ("127.0.0.1", b"http"),
    ("127.0.0.1", "no such service"),
    ("127.0.0.1", ""),
    ("127.0.0.1", " 80"),
    ("127.0.0.1", "-1"),
    ("127.0.0.1", "\u0661"),
    ("127.0.0.1", -1),
    ("127.0.0.1", 2**31),
    ("127.0.0.1", 2**100),
    ("127.0.0.1", "4294967295"),
    ("127.0.0.1", 80.0),
    ("127.0.0.1", True),
    (127, 80),
    (bytearray(b"127.0.0.1"), 80),
    (None, "http"),
]


def no_executor(loop):
    return mock.patch.object(loop, "run_in_executor", side_effect=AssertionError("a thread"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("host", HOSTS)
def test_literals_are_answered_at_once_and_exactly(host, family):
    loop = HOTLOOP.new_event_loop()

    async def main():
        combinations = itertools.product(PORTS, TYPES, PROTOS, FLAGS)
        for port, type, proto, flags in itertools.islice(combinations, 0, None, PATIENCE):
            assert answers_at_once(host, port)
            expected = outcome(socket.getaddrinfo, host, port, family, type, proto, flags)
            try:
                answer = await loop.getaddrinfo(
                    host, port, family=family, type=type, proto=proto, flags=flags
                )
                got = ("returned", answer)
            except Exception as exc:
                got = ("raised", exc.__class__, normalise(str(exc)))
            assert (port, type, proto, flags, got) == (port, type, proto, flags, expected)

    try:
        with no_executor(loop):
            loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("question", NOT_AT_ONCE, ids=repr)
def test_names_and_oddities_take_a_thread(question):
    assert not answers_at_once(*question)


QUESTIONS = [
    *((host, port) for host in HOSTS for port in (80, "http", None)),
    *(question for question in NOT_AT_ONCE if question[0] in (None, "127.0.0.1", "127.1", 127)),
    ("localhost", 80),
    (bytearray(b"127.0.0.1"), 80),
    ("1.2.3.4\0", 80),
]


def test_any_question_gets_asyncios_answer():
    def scenario(implementation):
        async def main():
            answers = []
            for question in QUESTIONS:
                try:
                    answer = await asyncio.get_running_loop().getaddrinfo(*question)
                except Exception as exc:
                    answer = type(exc), str(exc)
                answers.append((question, answer))
            return answers

        return implementation.run(main())

    same_on_both(scenario)


@pytest.mark.parametrize("question", [("127.0.0.1", 80), ("localhost", 80)])
def test_a_patched_socket_module_is_asked_in_a_thread(loop, run, question):
    threads = []

    def fake(*args):
        threads.append(threading.current_thread())
        return [args]

    with mock.patch("socket.getaddrinfo", fake):
        assert run(loop.getaddrinfo(*question)) == [(*question, 0, 0, 0, 0)]
    assert threads != [threading.current_thread()]


def test_a_method_put_in_asyncio_s_class_is_asked(loop, run):
    async def fake(*args, **options):
        return args[1:]

    with mock.patch.object(asyncio.BaseEventLoop, "getaddrinfo", fake):
        assert run(loop.getaddrinfo("127.0.0.1", 80)) == ("127.0.0.1", 80)


def test_a_patched_method_is_asked(loop, run):
    """As programs do that bring their own resolver."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        asked = []

        async def resolve(host, port, **options):
            asked.append((host, port))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

        loop.getaddrinfo = resolve

        async def main():
            _, writer = await asyncio.open_connection("somewhere.invalid", 1234)
            assert writer.get_extra_info("peername") == address
            writer.close()
            await writer.wait_closed()

        run(main())
        assert asked == [("somewhere.invalid", 1234)]


def test_debug_mode_tells_what_was_asked(impl, logged):
    async def main():
        return await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, type=1)

    logged.logger.setLevel("DEBUG")
    logged.setLevel("DEBUG")
    impl.run(main(), debug=True)
    assert any(
        "Get address info 127.0.0.1:80, type=" in record.getMessage() for record in logged.records
    )


def test_the_signature_is_asyncios(loop):
    assert inspect.iscoroutinefunction(loop.getaddrinfo)
    stock = asyncio.SelectorEventLoop.getaddrinfo
    assert inspect.signature(type(loop).getaddrinfo) == inspect.signature(stock)


def test_a_connection_to_a_zone(loop, run):
    """The scope of a link-local address reaches connect()."""

    async def main():
        return await loop.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM)

    try:
        number = socket.if_nametoindex("lo")
    except OSError:
        pytest.skip("there is no interface lo")
    assert [address for *_, address in run(main())] == [("fe80::1%lo", 80, 0, number)] or [
        address for *_, address in run(main())
    ] == [("fe80::1", 80, 0, number)]
