"""Methods of the loop called with arguments they do not take: the errors are in asyncio's words.

The messages differ from one Python to the next, and so are compared with those of the running one.
"""

import asyncio
import inspect

import hotloop
import pytest
from support import outcome, same_on_both

UNEXPECTED = {"unexpected": 1}
CALLS = {
    "call_soon": [
        ((), {}),
        ((), {"context": None}),
        ((), UNEXPECTED),
        ((print,), UNEXPECTED),
        ((print,), {"contexts": None}),
        ((print,), {"callback": print}),
    ],
    "call_later": [
        ((), {}),
        ((1,), {}),
        ((), {"callback": print}),
        ((1,), {"delay": 1}),
        ((1, print), {"delay": 1}),
        ((1, print), UNEXPECTED),
        ((None, print), {}),
        ((1, print), {"callback": print}),
    ],
    "call_at": [
        ((), {}),
        ((1,), {}),
        ((), {"callback": print}),
        ((1,), {"when": 1}),
        ((1, print), {"when": 1}),
        ((1, print), UNEXPECTED),
        ((None, print), {}),
    ],
    "create_task": [
        ((), {}),
        ((), {"name": "name"}),
        ((1, 2), {}),
        ((1, 2, 3), {"name": "name"}),
        ((1,), UNEXPECTED),
        ((1,), {"coro": 1}),
        ((1,), {"loop": None}),
    ],
    "run_in_executor": [
        ((), {}),
        ((None,), {}),
        ((), {"func": print}),
        ((None, print), UNEXPECTED),
    ],
    "add_reader": [
        ((), {}),
        ((0,), {}),
        ((), {"callback": print}),
        ((0,), {"fd": 0}),
        ((0, print), {"callback": print}),
        ((0, print), UNEXPECTED),
    ],
    "sock_recv": [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), UNEXPECTED)],
    "sock_sendall": [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), UNEXPECTED)],
    "sock_accept": [((), {}), ((1, 2), {}), ((1,), UNEXPECTED)],
    "sock_connect": [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), UNEXPECTED)],
    "sock_recvfrom_into": [((), {}), ((1,), {}), ((1, 2, 3, 4), {}), ((1, 2), UNEXPECTED)],
    "getaddrinfo": [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), UNEXPECTED)],
    "create_connection": [((), {}), ((1, 2, 3, 4), {}), ((1,), UNEXPECTED)],
    "close": [((1,), {}), ((), UNEXPECTED)],
}
for name, like in {
    "call_soon_threadsafe": "call_soon",
    "add_writer": "add_reader",
    "_add_reader": "add_reader",
    "_add_writer": "add_reader",
}.items():
    CALLS[name] = CALLS[like]


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("method", CALLS)
def test_wrong_arguments_are_refused_in_asyncios_words(method, debug):
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.set_debug(debug)
        try:
            return [
                outcome(getattr(loop, method), *args, **kwargs) for args, kwargs in CALLS[method]
            ]
        finally:
            loop.close()

    assert {result[:2] for result in same_on_both(scenario)} == {("raised", TypeError)}


def test_wrong_arguments_of_a_closed_loop_are_refused_first():
    def scenario(impl):
        loop = impl.new_event_loop()
        loop.close()
        return [
            outcome(getattr(loop, method))
            for method in ("call_soon", "call_later", "call_at", "create_task", "_add_reader")
        ]

    assert {result[:2] for result in same_on_both(scenario)} == {("raised", TypeError)}


def test_private_watching_methods_take_keywords(loop, pair):
    """As asyncio's do: they are Python functions."""
    seen = []
    loop._add_reader(fd=pair[0], callback=loop.stop)
    loop._add_writer(pair[0], callback=lambda: seen.append("writable"))
    pair[1].send(b"data")
    loop.run_forever()
    assert seen
    assert loop.remove_reader(pair[0]) and loop.remove_writer(pair[0])


def test_methods_are_named_as_asyncios():
    """In messages, reprs and warnings: "coroutine 'BaseSelectorEventLoop.sock_recv' was never awaited"."""
    named = {}
    for cls in hotloop.EventLoop.__mro__:
        if cls.__module__.startswith("hotloop"):
            for name, method in vars(cls).items():
                stock = getattr(asyncio.SelectorEventLoop, name, None)
                if inspect.isfunction(method) and inspect.isfunction(stock) and name != "__init__":
                    named[name] = method.__qualname__, stock.__qualname__
    assert named.keys() >= {"sock_recv", "create_connection", "getaddrinfo"}
    assert [pair for pair in named.values() if pair[0] != pair[1]] == []


@pytest.mark.parametrize("name", ["Future", "Task", "Handle", "TimerHandle"])
@pytest.mark.parametrize("keyword", [b"loop", 5, None, ("loop",)])
def test_keywords_that_are_no_strings_are_refused_by_every_type(name, keyword):
    with pytest.raises(TypeError):
        getattr(asyncio, name)(**{keyword: None})
    with pytest.raises(TypeError, match="keywords must be strings"):
        getattr(hotloop, name)(**{keyword: None})
