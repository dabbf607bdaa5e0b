"""What pytest loads wherever hotloop is installed: the option --hotloop, and nothing without it.

A module of its own, so that no test run that does without hotloop imports it. See
hotloop.pytest_plugin.
"""

PLUGIN = "hotloop.pytest_plugin"


def pytest_addoption(parser):
    group = parser.getgroup("hotloop")
    group.addoption(
        "--hotloop",
        action="store_true",
        default=False,
        help="run the tests on hotloop's event loop; fail those that run another",
    )
    group.addoption(
        "--hotloop-other-loops",
        action="store_true",
        default=False,
        help="with --hotloop: do not fail tests that run other event loops",
    )
    parser.addini(
        "hotloop_other_loops",
        "with --hotloop: do not fail tests that run other event loops",
        type="bool",
        default=False,
    )


def pytest_load_initial_conftests(early_config):
    load_if_wanted(early_config, early_config.known_args_namespace)


def pytest_configure(config):
    load_if_wanted(config, config.option)
    config.addinivalue_line(
        "markers",
        "hotloop_other_loops: with --hotloop, event loops other than hotloop's may run in this test",
    )


def load_if_wanted(config, options):
    if options.hotloop and not config.pluginmanager.has_plugin(PLUGIN):
        config.pluginmanager.import_plugin(PLUGIN)
        config.pluginmanager.get_plugin(PLUGIN).activate(config)
