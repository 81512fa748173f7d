"""The pytest plugin: options, target, parametrisation, results. Wiring only; each step lives in a module of its own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import USAGE_EXIT, UserError
from harness.run import crashes, time_shares, value_sources
from harness.run.options import Options, add_options
from harness.targets import TARGETS
from harness.ttnn_calls.refusals import explained

if TYPE_CHECKING:
    from harness.run.journal import Journal
    from harness.run.outcomes import Outcomes  # at run time only after a target is in place

OPTIONS = pytest.StashKey[Options]()
OUTCOMES: pytest.StashKey[Outcomes] = pytest.StashKey()
JOURNAL: pytest.StashKey[Journal] = pytest.StashKey()
FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
SPENT = pytest.StashKey[time_shares.Spent]()
SOURCES = pytest.StashKey[value_sources.Gathered]()
FAULT = pytest.StashKey[str]()  # why the run cannot start, or its results cannot be written; one line


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # This early because a conftest may import ttnn. Nothing can be reported from here: pytest_cmdline_main does.
    given = early_config.known_args_namespace
    if given.help or given.version:
        return
    from harness.targets import activate

    try:
        options = early_config.stash[OPTIONS] = Options.from_namespace(given)
        activate(options.target, mesh=options.mesh, mode=options.emulator_mode)
    except UserError as error:
        early_config.stash[FAULT] = str(error)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Ends a run that cannot work before it starts: one line on stderr, status 2."""
    if hasattr(config, "workerinput") or (OPTIONS not in config.stash and FAULT not in config.stash):
        return None
    fault = config.stash.get(FAULT, None) or _unusable(config)
    if fault is None:
        if TARGETS[config.stash[OPTIONS].target].native:
            crashes.isolate(config)
        return None
    print(f"error: {fault}", file=sys.stderr)
    return USAGE_EXIT


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "tt_golden(module, ...): run the test once per golden; see harness/run/goldens.py"
    )
    config.addinivalue_line("markers", "devices: about a mesh of several devices")
    config.addinivalue_line(
        "markers",
        "slow: left out by `tt-harness run --suite quick`, and of this project's own tests by `make test`",
    )
    if OPTIONS not in config.stash:
        return
    import torch

    from harness.plugin import fixtures
    from harness.run import journal, worker_groups
    from harness.run.outcomes import Outcomes
    from harness.run.session import Session

    options = config.stash[OPTIONS]
    if fixtures.SESSION not in config.stash:  # an xdist worker
        config.stash[fixtures.SESSION] = Session(options)
    kept = config.stash.get(JOURNAL, None)
    outcomes = config.stash[OUTCOMES] = Outcomes(options, kept)
    if not hasattr(config, "workerinput"):  # the reports of all workers arrive at the controller
        resumption = journal.Resumption(kept.finished if kept else ())
        config.pluginmanager.register(resumption, "tt_harness_resumption")
        config.pluginmanager.register(outcomes, "tt_harness_outcomes")
        adding = config.stash[SPENT] = time_shares.Spent(options.target)
        config.pluginmanager.register(adding, "tt_harness_spent")
        gathered = config.stash[SOURCES] = value_sources.Gathered()
        config.pluginmanager.register(gathered, "tt_harness_sources")
        config.pluginmanager.register(crashes.Controller(options.time_limit), "tt_harness_crashes")
        config.pluginmanager.register(worker_groups.Controller(), "tt_harness_worker_groups")
    else:
        # The workers share the cores; the emulator's kernels take as many threads as torch.
        torch.set_num_threads(max(1, torch.get_num_threads() // config.workerinput["workercount"]))
        resumption = journal.Resumption(config.workerinput[journal.FINISHED])
        config.pluginmanager.register(resumption, "tt_harness_resumption")
        last_words = Path(config.workerinput[crashes.LAST_WORDS])
        config.pluginmanager.register(crashes.Worker(last_words, options.time_limit), "tt_harness_crashes")
        precisions = Path(config.workerinput[worker_groups.PRECISIONS])
        config.pluginmanager.register(worker_groups.Worker(precisions), "tt_harness_worker_groups")
    config.pluginmanager.register(fixtures, "tt_harness_fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadgroup":
        return None
    from harness.run.worker_groups import PrecisionScheduling

    return PrecisionScheduling(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tt_precision" in metafunc.fixturenames:
        precisions = metafunc.config.stash[OPTIONS].precisions
        # Session scope makes pytest run all tests of one precision before the next is loaded.
        metafunc.parametrize("tt_precision", precisions, scope="session")
    markers = list(metafunc.definition.iter_markers("tt_golden"))[::-1]  # in the order they are written
    if markers:
        from harness.plugin.fixtures import SESSION
        from harness.run.goldens import FIXTURE, specs_of
        from harness.run.outcomes import input_errors

        try:
            specs = specs_of(markers, metafunc.config.stash[SESSION].config.n_layers)
        except input_errors() as error:
            raise pytest.Collector.CollectError(str(error)) from error
        metafunc.parametrize(FIXTURE, specs, ids=[spec.name.replace("/", ".") for spec in specs])


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if not config.stash[OPTIONS].update_goldens or not session.items:
        return
    worker = getattr(config, "workerinput", None)
    if worker is not None and worker["workercount"] > 1:
        return
    from harness.plugin.fixtures import SESSION
    from harness.run.goldens import FIXTURE, make_missing
    from harness.run.outcomes import END_PROPERTY, input_errors

    specs = [item.callspec.params[FIXTURE] for item in session.items if FIXTURE in _parameters(item)]  # type: ignore[attr-defined]
    try:
        make_missing(config.stash[SESSION], specs)
    except input_errors() as error:
        if worker is None:
            pytest.exit(str(error), returncode=USAGE_EXIT)
        # From the one worker of a target that is native code only a test's report reaches the user.
        session.items[0].user_properties.append((END_PROPERTY, str(error)))


def pytest_itemcollected(item: pytest.Item) -> None:
    if "tt_session" not in getattr(item, "fixturenames", ()):
        return
    from harness.results.schema import record_to_json
    from harness.run.outcomes import JUDGED_PROPERTY, unjudged

    record = unjudged(item.nodeid, item.config.stash[OPTIONS], _parameters(item))
    item.user_properties.append((JUDGED_PROPERTY, record_to_json(record)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    from harness.run.outcomes import begin_try

    begin_try(item)
    with explained():  # loading a model calls ops too
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    from harness.emulator import OutOfMemoryError
    from harness.run.outcomes import leave

    # The model does not fit the device: no further test would say anything else.
    with explained(), leave(OutOfMemoryError):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    from harness.run.outcomes import END_PROPERTY, EndOfRun

    if call.when == "teardown":
        item.user_properties.append((time_shares.SPENT_PROPERTY, time_shares.taken()))
        _file_conflicts(item)
        if sources := value_sources.taken():
            item.user_properties.append((value_sources.SOURCES_PROPERTY, sources))
    if call.excinfo is not None and isinstance(call.excinfo.value, EndOfRun):
        item.user_properties.append((END_PROPERTY, str(call.excinfo.value)))


def _file_conflicts(item: pytest.Item) -> None:
    """A test in which emulator and real ttnn disagree is the harness's business, even one that uses none of its fixtures."""
    from harness.plugin.fixtures import SESSION
    from harness.results.schema import record_to_json
    from harness.run.outcomes import JUDGED_PROPERTY, RECORD_PROPERTY, unjudged

    base = unjudged(item.nodeid, item.config.stash[OPTIONS], _parameters(item))
    found = value_sources.conflicts(base, item.config.stash[SESSION].policy)
    filed = [(JUDGED_PROPERTY, record_to_json(base))] if found else []
    item.user_properties += filed + [(RECORD_PROPERTY, record_to_json(record)) for record in found]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workerinput") or not config.stash[OUTCOMES].records or not _whole(config, exitstatus):
        return  # of a run cut short no file is left that looks whole
    from harness.plugin.fixtures import SESSION
    from harness.results.schema import ResultsError, write_results

    bad = config.stash[OUTCOMES].control_false_discoveries()
    if exitstatus != pytest.ExitCode.TESTS_FAILED:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if bad else pytest.ExitCode.OK
    path: Path | None = config.stash[OPTIONS].results
    if path is not None:
        try:
            environment, sources = config.stash[SESSION].environment(), config.stash[SOURCES].sources
            write_results(path, environment, config.stash[OUTCOMES].records, sources)
        except ResultsError as error:
            config.stash[FAULT] = str(error)
            session.exitstatus = USAGE_EXIT


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if not config.stash[OUTCOMES].records or not _whole(config, exitstatus):
        return
    from rich.console import Console

    from harness.plugin.fixtures import SESSION
    from harness.report import github, terminal
    from harness.results.schema import Results

    results = Results(
        config.stash[SESSION].environment(),
        tuple(config.stash[OUTCOMES].records),
        config.stash[SOURCES].sources,
    )
    terminalreporter.section("tt-harness")
    terminal.render(
        results, Console(file=terminalreporter._tw._file, force_terminal=terminalreporter.hasmarkup)
    )
    for line in config.stash[SPENT].lines():
        terminalreporter.write_line(line)
    github.tell_run(results, terminalreporter.write_line)
    kept = config.stash.get(JOURNAL, None)
    if kept is not None and kept.fault is not None:
        terminalreporter.write_line(f"warning: {kept.fault}", yellow=True)
    if FAULT in config.stash:
        terminalreporter.write_line(f"error: {config.stash[FAULT]}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if JOURNAL in config.stash:
        config.stash[JOURNAL].close()
    if OPTIONS in config.stash:
        from harness.plugin.fixtures import SESSION

        if SESSION in config.stash:
            config.stash[SESSION].close()


def _unusable(config: pytest.Config) -> str | None:
    """What is wrong with what the options name, if anything; leaves the run's Session in the stash."""
    options = config.stash[OPTIONS]
    if options.update_goldens and getattr(config.option, "numprocesses", None):
        return "--tt-update-goldens with -n: make the goldens first, in one process, then run with -n"
    from harness.plugin.fixtures import SESSION
    from harness.run import journal
    from harness.run.outcomes import input_errors
    from harness.run.session import Session

    try:
        session = config.stash[SESSION] = Session(options)
        session.check()
        if options.results is not None:
            path, selection = journal.beside(options.results), _selection(config)
            head = functools.partial(journal.head, session.environment, options, selection)
            finished = journal.read(path, head()) if options.resume and path.exists() else {}
            config.stash[JOURNAL] = journal.Journal(path, head, finished)
    except input_errors() as error:
        return str(error)
    return None


def _selection(config: pytest.Config) -> list[str]:
    """Which tests were asked for."""
    option = config.option
    return [
        *config.args,
        *(f"-{letter} {said}" for letter, said in (("m", option.markexpr), ("k", option.keyword)) if said),
    ]


def _whole(config: pytest.Config, exitstatus: int) -> bool:
    """Whether the run went through; one that goes on with an earlier one may find nothing left to do."""
    resumed = JOURNAL in config.stash and bool(config.stash[JOURNAL].finished)
    return exitstatus in FINISHED or (resumed and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED)


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}
