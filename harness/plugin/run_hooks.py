"""What a run that asked for the harness does: parametrisation, records, results. Wiring only; each step lives in a module of its own."""

from __future__ import annotations

import functools
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.emulator import OutOfMemoryError
from harness.errors import USAGE_EXIT
from harness.plugin.stash import FAULT, JOURNAL, OPTIONS, OUTCOMES, SESSION, SOURCES, SPENT
from harness.results.schema import Results, ResultsError, record_to_json, write_results
from harness.run import crashes, journal, time_shares, value_sources, worker_groups
from harness.run.goldens import FIXTURE, make_missing, specs_of
from harness.run.outcomes import (
    END_PROPERTY,
    JUDGED_PROPERTY,
    RECORD_PROPERTY,
    EndOfRun,
    Outcomes,
    begin_try,
    input_errors,
    leave,
    unjudged,
)
from harness.run.session import Session
from harness.targets import active
from harness.ttnn_calls.refusals import explained

FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def header(config: pytest.Config) -> str:
    """What answers `import ttnn` in this run, and in which precision its model computes."""
    options, target = config.stash[OPTIONS], active()
    mode = f", mode {target.mode}" if target.mode else ""
    return f"tt-harness: target {target.name}{mode}, mesh {options.mesh}, precision {', '.join(options.precisions)}"


def pytest_report_header(config: pytest.Config) -> str:
    return header(config)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "devices: about a mesh of several devices")
    config.addinivalue_line(
        "markers",
        "slow: left out by `tt-harness run --suite quick`, and of this project's own tests by `make test`",
    )
    options = config.stash[OPTIONS]
    if SESSION not in config.stash:  # an xdist worker
        config.stash[SESSION] = Session(options)
    lines = config.stash.get(JOURNAL, None)
    outcomes = config.stash[OUTCOMES] = Outcomes(options, lines)
    if not hasattr(config, "workerinput"):  # the reports of all workers arrive at the controller
        resumption = journal.Resumption(lines.finished if lines else ())
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadgroup":
        return None
    return worker_groups.PrecisionScheduling(config, log)


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Runs a test once per precision, and once per golden that its markers name."""
    if "tt_precision" in metafunc.fixturenames:
        precisions = metafunc.config.stash[OPTIONS].precisions
        # Session scope makes pytest run all tests of one precision before the next is loaded.
        metafunc.parametrize("tt_precision", precisions, scope="session")
    markers = list(metafunc.definition.iter_markers("tt_golden"))[::-1]  # in the order they are written
    if markers:
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
    record = unjudged(item.nodeid, item.config.stash[OPTIONS], _parameters(item))
    item.user_properties.append((JUDGED_PROPERTY, record_to_json(record)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    begin_try(item)
    with explained():  # loading a model calls ops too
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    # The model does not fit the device: no further test would say anything else.
    with explained(), leave(OutOfMemoryError):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.when == "teardown":
        item.user_properties.append((time_shares.SPENT_PROPERTY, time_shares.taken()))
        _file_conflicts(item)
        if sources := value_sources.taken():
            item.user_properties.append((value_sources.SOURCES_PROPERTY, sources))
    if call.excinfo is not None and isinstance(call.excinfo.value, EndOfRun):
        item.user_properties.append((END_PROPERTY, str(call.excinfo.value)))


def _file_conflicts(item: pytest.Item) -> None:
    """A test in which emulator and real ttnn disagree is the harness's business, even one that uses none of its fixtures."""
    base = unjudged(item.nodeid, item.config.stash[OPTIONS], _parameters(item))
    records = value_sources.conflicts(base, item.config.stash[SESSION].policy)
    filed = [(JUDGED_PROPERTY, record_to_json(base))] if records else []
    item.user_properties += filed + [(RECORD_PROPERTY, record_to_json(record)) for record in records]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workerinput") or not config.stash[OUTCOMES].records or not _whole(config, exitstatus):
        return  # of a run cut short no file is left that looks whole
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

    from harness.report import github, terminal

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
    lines = config.stash.get(JOURNAL, None)
    if lines is not None and lines.fault is not None:
        terminalreporter.write_line(f"warning: {lines.fault}", yellow=True)
    if FAULT in config.stash:
        terminalreporter.write_line(f"error: {config.stash[FAULT]}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if JOURNAL in config.stash:
        config.stash[JOURNAL].close()
    if SESSION in config.stash:
        config.stash[SESSION].close()


def unusable(config: pytest.Config) -> str | None:
    """What is wrong with what the options name, if anything; leaves the run's Session in the stash."""
    options = config.stash[OPTIONS]
    if options.update_goldens and getattr(config.option, "numprocesses", None):
        return "--tt-update-goldens with -n: make the goldens first, in one process, then run with -n"
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
        *(
            f"-{letter} {expression}"
            for letter, expression in (("m", option.markexpr), ("k", option.keyword))
            if expression
        ),
    ]


def _whole(config: pytest.Config, exitstatus: int) -> bool:
    """Whether the run went through; one that goes on with an earlier one may find nothing left to do."""
    resumed = JOURNAL in config.stash and bool(config.stash[JOURNAL].finished)
    return exitstatus in FINISHED or (resumed and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED)


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}
