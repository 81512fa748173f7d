"""A run that was killed goes on where it was; what another run left is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.results.schema import Record, ResultsError
from harness.run.journal import Journal, read

TESTS = """
import os, pathlib, pytest

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_first(tt_module, golden, compare):
    pathlib.Path("ran").open("a").write("first ")
    compare(tt_module(golden.inputs), golden.output)

@pytest.mark.tt_golden("mlp", layer=0, seq_len=32)
def test_wrong(tt_module, golden, compare):
    pathlib.Path("ran").open("a").write("wrong ")
    compare(2 * tt_module(golden.inputs), golden.output)

@pytest.mark.tt_golden("mlp", layer=0, seq_len=64)
def test_deadly(tt_module, golden, compare):
    pathlib.Path("ran").open("a").write("deadly ")
    if not pathlib.Path("killed").exists():
        pathlib.Path("killed").touch()
        os.kill(os.getpid(), 9)
    compare(tt_module(golden.inputs), golden.output)

@pytest.mark.tt_golden("mlp", layer=0, seq_len=64)
def test_last(tt_module, golden, compare):
    pathlib.Path("ran").open("a").write("last ")
    compare(tt_module(golden.inputs), golden.output)
"""


HEAD = {"commit": "0123", "model": "smollm2", "tests": "suites/modules -knot slow"}
RECORD = Record(
    test="test_mlp",
    module="mlp",
    metric="pcc",
    value=math.nan,
    verdict="regression",
    target="emulator",
    precision="accuracy",
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    journal = Journal(path, lambda: HEAD, {})
    for test in ("test_mlp", "test_norm"):
        journal.add(test, [replace(RECORD, test=test)])
    return path  # not closed: a killed process closes nothing


def test_every_finished_test_is_in_the_file_at_once(written: Path) -> None:
    assert repr(read(written, HEAD)) == repr(
        {test: [replace(RECORD, test=test)] for test in ("test_mlp", "test_norm")}
    )


def test_a_line_cut_short_is_a_test_that_had_not_finished(written: Path) -> None:
    for cut in (1, 40):
        written.write_text(written.read_text()[:-cut])
        assert list(read(written, HEAD)) == ["test_mlp"]


def test_a_resumed_journal_holds_both_runs(written: Path) -> None:
    written.write_text(written.read_text()[:-40])
    Journal(written, lambda: HEAD, read(written, HEAD)).add("test_rope", [replace(RECORD, test="test_rope")])
    assert list(read(written, HEAD)) == ["test_mlp", "test_rope"]


@pytest.mark.parametrize("field", HEAD)
def test_a_journal_of_another_run_is_refused(written: Path, field: str) -> None:
    with pytest.raises(
        ResultsError, match=f"results.jsonl: its {field} is {HEAD[field]}, this run's is another;"
    ):
        read(written, HEAD | {field: "another"})


@pytest.mark.parametrize(
    "content", ["", "{", "[]\n", f"{json.dumps(HEAD)}\nPCC 0.99\n", f'{json.dumps(HEAD)}\n{{"test": "x"}}\n']
)
def test_what_is_no_journal_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(content)
    with pytest.raises(ResultsError, match=r"cannot resume from \S+results.jsonl") as refused:
        read(path, HEAD)
    assert "\n" not in str(refused.value)


def test_a_journal_that_cannot_be_written_says_so_and_lets_the_run_go_on(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    journal = Journal(tmp_path / "results.jsonl", lambda: HEAD, {})
    journal.add("test_mlp", [RECORD])
    journal.add("test_norm", [RECORD])
    assert journal.fault is not None
    assert "this run cannot be resumed" in journal.fault


def test_a_killed_run_goes_on(judge, tmp_path: Path) -> None:
    """What was finished is not run again, what was not is, and the records are those of a run that nothing befell."""
    ran, journal, killed = (tmp_path / name for name in ("ran", "results.jsonl", "killed"))
    killed.touch()
    whole = judge(TESTS)
    for file in (ran, killed, whole.results):
        file.unlink()
    cut = judge(TESTS)
    assert cut.status not in (0, 1), cut
    assert not cut.results.exists()
    left = journal.read_text()
    result = judge(TESTS, "--tt-resume")
    assert ran.read_text() == "first wrong deadly deadly last "
    assert result.status == 1, "a test of the killed run had failed"
    assert result.records == whole.records
    again = judge(TESTS, "--tt-resume")
    assert ran.read_text() == "first wrong deadly deadly last "
    assert (again.status, again.records) == (1, whole.records), "a run that lacks nothing says the same again"
    journal.write_text(left)
    ran.unlink()
    workers = judge(TESTS, "--tt-resume", "-n2")
    assert sorted(ran.read_text().split()) == ["deadly", "last"]
    assert sorted(workers.records, key=str) == sorted(whole.records, key=str)


def test_resuming_needs_results(start) -> None:
    assert "--tt-resume: needs --tt-results" in start("pytest", "--tt-resume").fault
