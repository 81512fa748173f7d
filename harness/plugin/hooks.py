"""The plugin as a guest: in a run that does not ask for the harness it adds options and fixtures by name, and no more.

A run asks by an option `--tt-*`, by a table `[tool.tt-harness]` in its pyproject.toml, by a marker or fixture whose name
begins with `tt_`, or by a short name of such a fixture. Then a target answers `import ttnn`, and `run_hooks` does the rest.
Nothing imported here may be heavy: whoever has the harness installed pays for it in each of their runs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.errors import USAGE_EXIT, UserError
from harness.plugin import fixtures
from harness.plugin.stash import FAULT, OPTIONS, SESSION
from harness.run.options import Options, add_options
from harness.run.settings import read_settings
from harness.targets import TARGETS, activate

_NAME_IT = "name the target, such as --tt-target emulator, or under [tool.tt-harness] in pyproject.toml"
# In a test file, before it is imported: it may import ttnn in its first lines.
_ASKING = re.compile(rf"\b(?:tt_golden|{'|'.join(fixtures.NAMES)})\b")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    add_options(parser)
    pluginmanager.register(fixtures, "tt_harness_fixtures")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # This early because a conftest may import ttnn. Nothing can be reported from here: pytest_cmdline_main does.
    arguments = early_config.known_args_namespace
    if arguments.help or arguments.version:
        return
    try:
        settings = read_settings(early_config.rootpath)
        options = {name: value for name, value in vars(arguments).items() if name.startswith("tt_")}
        if settings or any(value is not None and value is not False for value in options.values()):
            _activate(early_config, Options.of(options, settings))
    except UserError as error:
        early_config.stash[FAULT] = str(error)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Ends a run that cannot work before it starts: one line on stderr, status 2."""
    if hasattr(config, "workerinput") or (OPTIONS not in config.stash and FAULT not in config.stash):
        return None
    fault = config.stash.get(FAULT, None)
    if fault is None:
        from harness.plugin.run_hooks import unusable

        fault = unusable(config)
    if fault is None:
        if TARGETS[config.stash[OPTIONS].target].native:
            from harness.run import crashes

            crashes.isolate(config)
        return None
    print(f"error: {fault}", file=sys.stderr)
    return USAGE_EXIT


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "tt_golden(module, ...): run the test once per golden; see harness/run/goldens.py"
    )
    if OPTIONS in config.stash:
        _register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    if SESSION not in parent.config.stash and _ASKING.search(module_path.read_text("utf-8", "replace")):
        _ask(parent.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tt_session" in metafunc.fixturenames or metafunc.definition.get_closest_marker("tt_golden"):
        if SESSION not in metafunc.config.stash:
            _ask(metafunc.config)
        from harness.plugin.run_hooks import parametrize

        parametrize(metafunc)


def _ask(config: pytest.Config) -> None:
    """Puts the default target in place while tests are collected. Raises CollectError, one line, where that cannot be."""
    if FAULT in config.stash:
        raise pytest.Collector.CollectError(config.stash[FAULT])
    try:
        if hasattr(config, "workerinput"):
            raise UserError(f"a test asks for tt-harness in a run of several processes: {_NAME_IT}")
        if "ttnn" in sys.modules:
            raise UserError(f"a test asks for tt-harness after ttnn was imported: {_NAME_IT}")
        _activate(config, Options())
        from harness.plugin.run_hooks import header, unusable

        if fault := unusable(config):
            raise UserError(fault)
    except UserError as error:
        config.stash[FAULT] = str(error)
        raise pytest.Collector.CollectError(str(error)) from error
    _register(config)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.verbosity >= 0:
        reporter.write_line("")
        reporter.write_line(header(config))


def _activate(config: pytest.Config, options: Options) -> None:
    activate(options.target, mesh=options.mesh, mode=options.emulator_mode)
    config.stash[OPTIONS] = options


def _register(config: pytest.Config) -> None:
    from harness.plugin import run_hooks

    config.pluginmanager.register(run_hooks, "tt_harness_run")
