"""Run an existing test suite on hotloop: ``pytest --hotloop``, or ``-p hotloop.pytest_plugin``.

What this does while pytest runs, and takes back at the end:

- asyncio's default policy makes hotloop's loops, so whatever asks asyncio for a loop gets one:
  asyncio.run(), asyncio.Runner, new_event_loop(), and through them pytest-asyncio, anyio's and
  aiohttp's plugins, unittest.IsolatedAsyncioTestCase, tornado.testing. The policy itself stays what it
  is: nothing here uses the functions that Python 3.14 deprecates.
- a runner that is given asyncio's own loop class as its loop factory takes hotloop's.
- a test during which another loop ran fails. Loops that a test chooses by name (uvloop's,
  asyncio.SelectorEventLoop()) are not replaced. To allow them: the marker hotloop_other_loops, or for
  all tests the option --hotloop-other-loops or ini setting hotloop_other_loops = true.

Processes that tests start are not reached.
"""

import asyncio
import functools
import sys
from asyncio import events, unix_events

import pytest
import pytest_hotloop

import hotloop


def pytest_addoption(pluginmanager):
    if not pluginmanager.is_registered(pytest_hotloop):
        pluginmanager.register(pytest_hotloop, "hotloop")  # as its entry point would


def pytest_load_initial_conftests(early_config):
    activate(early_config)  # before a conftest can make a loop


def pytest_configure(config):
    activate(config)  # comes alone if a conftest names this plugin


def activate(config):
    """Lead asyncio to hotloop until this pytest run ends."""
    if not config.pluginmanager.has_plugin("hotloop-guard"):
        replaced = Replaced()
        config.add_cleanup(replaced.undo)
        config.pluginmanager.register(Guard(config, replaced), "hotloop-guard")
        lead_to_hotloop(replaced)


INHERITED = object()


class Replaced:
    """Attributes set for a time."""

    def __init__(self):
        self._before = []

    def set(self, owner, name, value):
        self._before.append((owner, name, vars(owner).get(name, INHERITED)))
        setattr(owner, name, value)

    def undo(self):
        while self._before:
            owner, name, value = self._before.pop()
            if value is INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def lead_to_hotloop(replaced):
    """Let asyncio make hotloop's loops."""
    if sys.version_info < (3, 16):
        # Read through the policy object at each new loop, whoever set one up. The second name is
        # that of 3.14 and later, which does not warn.
        policy = getattr(unix_events, "_DefaultEventLoopPolicy", None)
        policy = policy or unix_events.DefaultEventLoopPolicy
        replaced.set(policy, "_loop_factory", hotloop.EventLoop)
    else:
        replaced.set(events, "new_event_loop", hotloop.new_event_loop)
        replaced.set(asyncio, "new_event_loop", hotloop.new_event_loop)

    init = asyncio.Runner.__init__

    @functools.wraps(init)
    def runner_init(self, *, debug=None, loop_factory=None):
        if loop_factory is asyncio.SelectorEventLoop:  # asyncio.EventLoop is the same
            loop_factory = hotloop.new_event_loop
        init(self, debug=debug, loop_factory=loop_factory)

    replaced.set(asyncio.Runner, "__init__", runner_init)


class Guard:
    """Sees which loops run, and fails the tests that run others than hotloop's."""

    def __init__(self, config, replaced):
        self._config = config
        self._replaced = replaced
        self._others = []  # what ran and not hotloop, since the present phase of a test began
        self._allowed = 0
        self._failed = None  # the last item that failed for it, which need not hear it twice
        self._watch()

    def _watch(self):
        """Have _note called whenever a loop begins to run."""
        set_running_loop = events._set_running_loop

        @functools.wraps(set_running_loop)
        def noting(loop):
            self._note(loop)
            set_running_loop(loop)

        # uvloop and its like take theirs from asyncio when they are imported ...
        self._replaced.set(events, "_set_running_loop", noting)
        self._replaced.set(asyncio, "_set_running_loop", noting)
        # ... those that are here already would be missed.
        for cls in asyncio.AbstractEventLoop.__subclasses__():
            if not cls.__module__.startswith("asyncio.") and hasattr(cls, "run_forever"):
                self._watch_class(cls)

    def _watch_class(self, cls):
        run_forever = cls.run_forever

        @functools.wraps(run_forever)
        def noting(loop):
            self._note(loop)
            return run_forever(loop)

        self._replaced.set(cls, "run_forever", noting)

    def _note(self, loop):
        if loop is not None and not isinstance(loop, hotloop.EventLoop):
            self._others.append(f"{type(loop).__module__}.{type(loop).__qualname__}")

    def _judge(self, item):
        others = sorted(set(self._others))
        self._others.clear()
        if not others or item is self._failed:
            return
        if self._all_allowed() or item.get_closest_marker("hotloop_other_loops"):
            self._allowed += 1
            return
        self._failed = item
        pytest.fail(
            f"ran on another loop than hotloop: {', '.join(others)} (to allow it: "
            "@pytest.mark.hotloop_other_loops, or --hotloop-other-loops for all tests)",
            pytrace=False,
        )

    def _all_allowed(self):
        return self._config.getoption("hotloop_other_loops") or self._config.getini(
            "hotloop_other_loops"
        )

    def _phase(self, item):
        self._others.clear()
        result = yield
        self._judge(item)  # not after a failure of the test's own
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        self._failed = None  # a plugin may run it again
        return (yield from self._phase(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item):
        return (yield from self._phase(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item):
        return (yield from self._phase(item))

    def pytest_report_header(self):
        return f"hotloop {hotloop.__version__} on libuv {hotloop.libuv_version()}"

    def pytest_terminal_summary(self, terminalreporter):
        if self._allowed:
            terminalreporter.write_line(
                f"hotloop: other event loops were allowed, and ran in {self._allowed} phases of tests"
            )
