"""The pytest plugin: options, target, parametrisation, results. Wiring only; each step lives in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import USAGE_EXIT, UserError
from harness.options import Options, add_options

if TYPE_CHECKING:
    from harness.outcomes import Outcomes

OPTIONS = pytest.StashKey[Options]()
OUTCOMES = pytest.StashKey["Outcomes"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "tt_golden(module, ...): run the test once per golden; see harness/golden_marks.py"
    )
    config.addinivalue_line("markers", "slow: left out by `tt-harness run --suite quick`")
    if config.option.help or getattr(config.option, "version", 0):
        return
    from harness.targets import activate

    try:
        options = Options.from_config(config)
        if options.update_goldens and getattr(config.option, "numprocesses", None):
            raise UserError(
                "--tt-update-goldens with -n: make the goldens first, in one process: tt-harness goldens make"
            )
        activate(options.target, mesh=options.mesh)
    except UserError as error:
        pytest.exit(str(error), returncode=USAGE_EXIT)
    config.stash[OPTIONS] = options
    # Only now may anything import ttnn.
    from harness import fixtures
    from harness.outcomes import Outcomes, leave
    from harness.session import Session

    with leave():
        config.stash[fixtures.SESSION] = Session(options)
    config.stash[OUTCOMES] = Outcomes(options.target, options.mesh)
    config.pluginmanager.register(fixtures, "tt_harness_fixtures")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tt_precision" in metafunc.fixturenames:
        precisions = metafunc.config.stash[OPTIONS].precisions
        # Session scope makes pytest run all tests of one policy before the next is loaded.
        metafunc.parametrize("tt_precision", precisions, scope="session")
    markers = list(metafunc.definition.iter_markers("tt_golden"))[::-1]  # in the order they are written
    if markers:
        from harness.fixtures import SESSION
        from harness.golden_marks import FIXTURE, specs_of
        from harness.outcomes import leave

        with leave():
            specs = specs_of(markers, metafunc.config.stash[SESSION].config.n_layers)
        metafunc.parametrize(FIXTURE, specs, ids=[spec.name.replace("/", ".") for spec in specs])


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if not config.stash[OPTIONS].update_goldens or hasattr(config, "workerinput"):
        return
    from harness.fixtures import SESSION
    from harness.golden_making import make_missing
    from harness.golden_marks import FIXTURE
    from harness.outcomes import leave

    specs = [item.callspec.params[FIXTURE] for item in session.items if FIXTURE in _parameters(item)]  # type: ignore[attr-defined]
    with leave():
        make_missing(config.stash[SESSION], specs)


def pytest_itemcollected(item: pytest.Item) -> None:
    from harness.outcomes import JUDGED_PROPERTY

    if "tt_session" in getattr(item, "fixturenames", ()):
        item.user_properties.append((JUDGED_PROPERTY, item.nodeid))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if _outcomes is not None:
        _outcomes.take(report)


def pytest_sessionstart(session: pytest.Session) -> None:
    global _outcomes
    _outcomes = None if hasattr(session.config, "workerinput") else session.config.stash[OUTCOMES]


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workerinput") or not config.stash[OUTCOMES].records:
        return
    from harness.fixtures import SESSION
    from harness.records import ResultsError, write_results

    path: Path | None = config.stash[OPTIONS].results
    if path is not None:
        try:
            write_results(path, config.stash[SESSION].environment(), config.stash[OUTCOMES].records)
        except ResultsError as error:
            pytest.exit(str(error), returncode=USAGE_EXIT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.stash[OUTCOMES].records:
        return
    from rich.console import Console

    from harness.fixtures import SESSION
    from harness.records import Results
    from harness.report import terminal

    results = Results(config.stash[SESSION].environment(), tuple(config.stash[OUTCOMES].records))
    terminalreporter.section("tt-harness")
    terminal.render(
        results, Console(file=terminalreporter._tw._file, force_terminal=terminalreporter.hasmarkup)
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    if OPTIONS in config.stash:
        from harness.fixtures import SESSION

        if SESSION in config.stash:
            config.stash[SESSION].close()


_outcomes: Outcomes | None = None  # pytest_runtest_logreport gets no config


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}
