"""hotloop.pytest_plugin: suites as people have them, run by a pytest of their own."""

import importlib.util
import os
import sys
from importlib.metadata import entry_points

import hotloop
import pytest
from support import clean_environment

OTHER = "asyncio.unix_events._UnixSelectorEventLoop"
ON_HOTLOOP = """
    import asyncio, hotloop

    def check(loop=None):
        loop = loop or asyncio.get_running_loop()
        assert isinstance(loop, hotloop.EventLoop), loop
"""


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def suite(pytester, monkeypatch):
    """suite(source, *options): the result of running a test file, other plugins left out."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source, *options):
        pytester.makepyfile(helpers=ON_HOTLOOP)
        pytester.makepyfile(test_it=source)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *options)

    return run


@pytest.fixture
def on_hotloop(suite):
    """As suite, with the plugin, and no warning allowed."""

    def run(source, *options):
        return suite(source, "-p", "hotloop.pytest_plugin", "-W", "error", *options)

    return run


HEADER = f"hotloop {hotloop.__version__} on libuv {hotloop.libuv_version()}"


# -- loops from asyncio itself ---------------------------------------------------

PLAIN = """
    import asyncio
    from helpers import check

    async def main():
        check()

    def test_run():
        asyncio.run(main())

    def test_runner():
        with asyncio.Runner() as runner:
            runner.run(main())

    def test_stock_loop_as_factory():
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(main())

    def test_new_event_loop():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
"""


def test_whatever_asks_asyncio_for_a_loop_gets_hotloops(on_hotloop):
    result = on_hotloop(PLAIN)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([HEADER])


def test_loops_that_a_conftest_makes_are_hotloops(on_hotloop, pytester):
    pytester.makeconftest(
        """
        import asyncio, hotloop
        loop = asyncio.new_event_loop()
        assert isinstance(loop, hotloop.EventLoop)
        loop.close()
        """
    )
    on_hotloop("def test(): pass").assert_outcomes(passed=1)


def test_a_conftest_can_name_the_plugin(suite, pytester):
    pytester.makeconftest("pytest_plugins = ['hotloop.pytest_plugin']")
    result = suite(PLAIN, "-W", "error")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([HEADER])


def test_isolated_asyncio_test_case(on_hotloop):
    on_hotloop(
        """
        import asyncio, unittest
        from helpers import check

        class Test(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                check()

            async def test(self):
                check()

        class TestOnStock(Test):
            loop_factory = asyncio.SelectorEventLoop  # heeded from 3.13 on
        """
    ).assert_outcomes(passed=2)


# -- the option ------------------------------------------------------------------

PRINTS = """
    import asyncio, sys

    def test():
        print("hotloop" in sys.modules)
        asyncio.run(asyncio.sleep(0))
"""


def test_without_the_option_nothing_happens(suite):
    result = suite(PRINTS, "-p", "pytest_hotloop")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["False"])
    result.stdout.no_fnmatch_line("*libuv*")


def test_the_option(suite):
    result = suite(PLAIN, "-p", "pytest_hotloop", "--hotloop")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([HEADER])


def test_the_option_is_there_by_the_entry_point(suite, monkeypatch):
    if not entry_points(group="pytest11", name="hotloop"):
        pytest.skip("hotloop is not installed, only built in place")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    others = ("-p", "no:asyncio", "-p", "no:aiohttp", "-p", "no:anyio")
    for way in (["--hotloop"], ["-p", "hotloop.pytest_plugin"]):
        result = suite(PLAIN, *way, *others)
        result.assert_outcomes(passed=4)
        result.stdout.fnmatch_lines([HEADER])


def test_asyncio_is_given_back_at_the_end(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        test_it="""
        import asyncio, hotloop

        def test():
            loop = asyncio.new_event_loop()
            assert isinstance(loop, hotloop.EventLoop)
            loop.close()
        """
    )
    script = pytester.makepyfile(
        runner="""
        import asyncio, pytest
        before = asyncio.Runner.__init__, asyncio.events._set_running_loop, asyncio.new_event_loop
        assert pytest.main(["-p", "hotloop.pytest_plugin", "test_it.py"]) == 0
        after = asyncio.Runner.__init__, asyncio.events._set_running_loop, asyncio.new_event_loop
        assert after == before
        loop = asyncio.new_event_loop()
        assert type(loop) is asyncio.SelectorEventLoop
        loop.close()
        """
    )
    assert pytester.run(sys.executable, script).ret == 0


# -- other loops -----------------------------------------------------------------

OTHERS = """
    import asyncio, pytest
    from helpers import check

    def run_another():
        loop = asyncio.SelectorEventLoop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def test_on_hotloop():
        asyncio.run(asyncio.sleep(0))

    def test_in_the_test():
        run_another()

    @pytest.fixture
    def before():
        run_another()

    def test_in_the_setup(before):
        pass

    @pytest.fixture
    def after():
        yield
        run_another()

    def test_in_the_teardown(after):
        pass

    def test_in_a_thread():
        asyncio.run(asyncio.to_thread(run_another))

    def test_made_but_not_run():
        asyncio.SelectorEventLoop().close()

    @pytest.mark.hotloop_other_loops
    def test_allowed():
        run_another()
"""


def test_another_loop_fails_the_test(on_hotloop):
    result = on_hotloop(OTHERS, "--strict-markers")
    result.assert_outcomes(passed=4, failed=2, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            f"ran on another loop than hotloop: {OTHER} (to allow it: *",
            "ERROR test_it.py::test_in_the_setup*",
            "ERROR test_it.py::test_in_the_teardown*",
            "FAILED test_it.py::test_in_the_test*",
            "FAILED test_it.py::test_in_a_thread*",
        ]
    )


@pytest.mark.parametrize("how", ["option", "ini"])
def test_other_loops_can_be_allowed(on_hotloop, pytester, how):
    options = ["--hotloop-other-loops"] if how == "option" else []
    if how == "ini":
        pytester.makeini("[pytest]\nhotloop_other_loops = true")
    result = on_hotloop(OTHERS, *options)
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["hotloop: other event loops were allowed, and ran *"])


def test_a_test_that_is_run_again_fails_again(on_hotloop, pytester):
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            runtestprotocol(item, nextitem=nextitem, log=False)
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    on_hotloop(OTHERS).assert_outcomes(passed=4, failed=2, errors=2)


def test_a_failure_of_the_tests_own_stays(on_hotloop):
    result = on_hotloop(
        """
        import asyncio

        def test():
            loop = asyncio.SelectorEventLoop()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            assert not "its own"
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *its own*"])


@needs("uvloop")
@pytest.mark.parametrize("when", ["before", "after"], ids="imported {} the plugin".format)
def test_uvloop_is_seen(on_hotloop, when):
    early = ["-p", "uvloop"] if when == "before" else []
    result = on_hotloop(
        """
        import asyncio

        def test():
            import uvloop
            uvloop.run(asyncio.sleep(0))
        """,
        *early,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ran on another loop than hotloop: uvloop.Loop *"])


# -- pytest-asyncio --------------------------------------------------------------

ASYNCIO = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"]


@needs("pytest_asyncio")
def test_pytest_asyncio_strict(on_hotloop):
    on_hotloop(
        """
        import pytest, pytest_asyncio
        from helpers import check

        @pytest_asyncio.fixture
        async def fixture():
            check()
            yield
            check()

        @pytest.mark.asyncio
        async def test(fixture):
            check()

        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def wide():
            check()
            yield
            check()

        @pytest.mark.asyncio(loop_scope="module")
        async def test_wide(wide):
            check()
        """,
        *ASYNCIO,
    ).assert_outcomes(passed=2)


@needs("pytest_asyncio")
def test_pytest_asyncio_auto(on_hotloop):
    on_hotloop(
        """
        import pytest
        from helpers import check

        @pytest.fixture
        async def fixture():
            check()

        async def test(fixture):
            check()
        """,
        *ASYNCIO,
        "--asyncio-mode=auto",
    ).assert_outcomes(passed=1)


@needs("pytest_asyncio")
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio policies are deprecated")
def test_pytest_asyncio_with_a_policy_of_the_suite(on_hotloop):
    on_hotloop(
        """
        import asyncio, pytest
        from helpers import check

        class Policy(asyncio.DefaultEventLoopPolicy):
            pass

        @pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, Policy])
        def event_loop_policy(request):
            return request.param()

        @pytest.mark.asyncio
        async def test():
            check()
        """,
        *ASYNCIO,
        "-W",
        "ignore:Overriding the",
    ).assert_outcomes(passed=2)


@needs("pytest_asyncio")
def test_pytest_asyncio_with_loop_factories_of_the_suite(on_hotloop, pytester):
    if not hasattr(importlib.import_module("pytest_asyncio.plugin"), "PytestAsyncioSpecs"):
        pytest.skip("this pytest-asyncio has no pytest_asyncio_loop_factories")
    pytester.makeconftest(
        """
        import asyncio

        class Mine(asyncio.SelectorEventLoop):
            pass

        def pytest_asyncio_loop_factories(config, item):
            return {
                "default": asyncio.new_event_loop, "stock": asyncio.SelectorEventLoop, "mine": Mine
            }
        """
    )
    result = on_hotloop(
        """
        import pytest
        from helpers import check

        @pytest.mark.asyncio
        async def test(request):
            if "mine" not in request.node.name:
                check()
        """,
        *ASYNCIO,
    )
    # A loop class of the suite's own cannot be replaced, but does not go unnoticed.
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test?mine?*"])


# -- anyio, aiohttp, tornado -----------------------------------------------------


@needs("anyio")
def test_anyio(on_hotloop):
    result = on_hotloop(
        """
        import asyncio, anyio, pytest
        from helpers import check

        @pytest.fixture(
            params=[
                "asyncio",
                ("asyncio", {"debug": True}),
                ("asyncio", {"loop_factory": asyncio.SelectorEventLoop}),
            ]
        )
        def anyio_backend(request):
            return request.param

        @pytest.fixture
        async def fixture():
            check()
            yield
            check()

        @pytest.mark.anyio
        async def test(fixture):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            check()

        def test_run():
            anyio.run(anyio.sleep, 0)
        """,
        "-p",
        "anyio.pytest_plugin",
    )
    result.assert_outcomes(passed=4)


AIOHTTP = """
    from aiohttp import web
    from helpers import check

    async def handler(request):
        check()
        return web.Response(text="hello")

    async def test_client(aiohttp_client):
        app = web.Application()
        app.router.add_get("/", handler)
        client = await aiohttp_client(app)
        async with client.get("/") as response:
            assert await response.text() == "hello"
        check()
"""


@needs("aiohttp")
def test_aiohttp(on_hotloop):
    """The plugin in aiohttp itself: its loop fixture and clients."""
    on_hotloop(
        AIOHTTP
        + """
    def test_loop(loop):
        check(loop)
        """,
        "-p",
        "aiohttp.pytest_plugin",
        "-W",
        "ignore:aiohttp.pytest_plugin will be removed",
    ).assert_outcomes(passed=2)


@needs("pytest_aiohttp")
def test_pytest_aiohttp(on_hotloop):
    on_hotloop(
        AIOHTTP, *ASYNCIO, "-p", "pytest_aiohttp.plugin", "--asyncio-mode=auto"
    ).assert_outcomes(passed=1)


@needs("tornado")
def test_tornado(on_hotloop):
    on_hotloop(
        """
        from helpers import check
        from tornado.testing import AsyncTestCase, gen_test

        class Test(AsyncTestCase):
            @gen_test
            async def test(self):
                check()
        """,
    ).assert_outcomes(passed=1)
