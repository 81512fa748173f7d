"""Where a run's time went: each second in one part, of all workers, and only of the tests that this run ran."""

from __future__ import annotations

import re

import pytest

LINE = re.compile(
    r"^time: ([\d.]+) s(, 2 workers)?: start-up ([\d.]+) s \(\d+%\), goldens ([\d.]+) s \(\d+%\), "
    r"metrics ([\d.]+) s \(\d+%\), the model on emulator ([\d.]+) s \(\d+%\)$",
    re.MULTILINE,
)
TESTS = """
import time
import pytest
from harness.run.recorder import Recorder
import harness.run.recorder
from harness.run.session import Session

compared, read = harness.run.recorder.compare_tensors, Session.golden_key
harness.run.recorder.compare_tensors = lambda *pair: time.sleep(1) or compared(*pair)
Session.golden_key = lambda session, spec: time.sleep(2) or read(session, spec)

@pytest.mark.tt_golden("mlp", layer=0, seq_len=[32, 64])
def test_mlp(tt_module, golden, compare):
    time.sleep(3)
    compare(tt_module(golden.inputs), golden.output)

def test_quick(recorder):
    recorder.judge({"kl": 0.001}, n=5)
"""


def shares(message: str) -> list[float]:
    """Wall time, start-up, goldens, metrics, model: seconds."""
    figures = LINE.findall(message)
    assert len(figures) == 1, message
    return [float(part) for part in (figures[0][0], *figures[0][2:])]


def slowest(message: str) -> tuple[int, list[tuple[str, float]]]:
    line = re.search(r"^slowest of (\d+) tests: (.+)$", message, re.MULTILINE)
    assert line, message
    tests = [part.rsplit(" ", 2) for part in line[2].split(", ")]
    return int(line[1]), [(name, float(seconds)) for name, seconds, _ in tests]


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_each_second_is_in_one_part(judge, workers: tuple[str, ...]) -> None:
    """Two tests that sleep 2 s over a golden, 1 s over metrics and 3 s by themselves, in one process and in two."""
    result = judge(TESTS, *workers)
    assert result.status == 0, result
    wall, start_up, goldens, metrics, model = shares(result.out)
    assert 4 <= goldens < 5.5
    assert 2 <= metrics < 3.5
    assert model >= 6
    assert bool(workers) == (", 2 workers" in result.out)
    if not workers:
        # What is left is pytest between the tests and at the end.
        assert wall / 2 < start_up + goldens + metrics + model <= wall + 0.3
    count, tests = slowest(result.out)
    assert count == 3
    assert [seconds for _, seconds in tests] == sorted((seconds for _, seconds in tests), reverse=True)
    assert {name for name, seconds in tests if seconds >= 6} == {
        "test_mine.py::test_mlp[accuracy-mlp.layer0.prefill.S32.B1]",
        "test_mine.py::test_mlp[accuracy-mlp.layer0.prefill.S64.B1]",
    }


def test_making_goldens_is_no_start_up(judge) -> None:
    making = judge(TESTS, "--tt-update-goldens", "--tt-goldens=made", "-k", "32")
    assert making.status == 0, making
    _, _, goldens, _, _ = shares(making.out)
    read = judge(TESTS, "--tt-update-goldens", "--tt-goldens=made", "-k", "32")
    _, _, only_read, _, _ = shares(read.out)
    assert goldens > only_read


def test_a_resumed_run_tells_of_its_own_tests(judge, tmp_path) -> None:
    journal, killed = tmp_path / "results.jsonl", judge(TESTS)
    head, first, *_ = journal.read_text().splitlines()
    journal.write_text(f"{head}\n{first}\n")
    killed.results.unlink()
    result = judge(TESTS, "--tt-resume")
    assert result.status == 0, result
    assert slowest(result.out)[0] == 2
    again = judge(TESTS, "--tt-resume")
    assert again.status == 0
    assert not LINE.findall(again.out), "no test ran"
