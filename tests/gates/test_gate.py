"""The gate passes what is equal and sees each thing that can go wrong, by `tt-harness`'s own command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.results.schema import Record
from tests.gates.runs import MLP, NORM, RECORDS, command, counter, record, results


def test_an_equal_run_passes(gate) -> None:
    message = gate(commit="4567", model="/elsewhere/smollm2")
    assert message.status == 0, message
    assert message.text.startswith("GATE: pass; nothing changed; 3 checks")
    assert "(the first)" in message.text


def test_a_regression_is_named(gate) -> None:
    message = gate([record(value=0.99), *RECORDS[1:]])
    assert message.status == 1
    line = next(line for line in message.text.splitlines() if "mlp" in line)
    for part in (
        "accuracy mlp layer 0 prefill",
        "seq 128",
        "mesh 1x1",
        "pcc",
        "0.99",
        "0.999",
        "0.9999",
        MLP,
    ):
        assert part in line


def test_the_value_is_judged_and_not_the_runs_own_verdict(gate) -> None:
    """A run made under a looser policy calls itself a pass."""
    assert gate([record(value=0.5, gate=0.4, verdict="pass"), *RECORDS[1:]]).status == 1


def test_another_policy_judges_the_same_results(gate, folder: Path) -> None:
    strict = folder / "strict.yaml"
    strict.write_text(
        "metrics: {pcc: higher}\nguidelines: []\ngates:\n  - {metric: pcc, value: 0.99995}\n",
        encoding="utf-8",
    )
    assert gate(RECORDS, "--policy", strict).status == 1


def test_nan_is_a_regression(gate) -> None:
    message = gate([record(value=math.nan), *RECORDS[1:]])
    assert message.status == 1
    assert "pcc: nan" in message.text


def test_a_change_within_the_gate_is_told_and_passes(gate) -> None:
    message = gate([record(value=0.9995), *RECORDS[1:]])
    assert message.status == 0
    assert "1 changed" in message.text
    assert "0.9995, baseline 0.9999" in message.text


def test_a_test_that_vanished_fails(gate) -> None:
    message = gate([RECORDS[0], RECORDS[2]])
    assert message.status == 1
    assert f"{NORM}: this test of the baseline did not run on emulator 1x1" in message.text


def test_a_mesh_that_vanished_fails(folder: Path, baseline: Path) -> None:
    """The job of a mesh was lost, and the same tests ran on another."""
    both = [*RECORDS, *(replace(one, mesh="1x2") for one in RECORDS)]
    result = command(
        "baseline", "update", results(folder / "b", both), "--baseline", baseline, "--reason", "meshes"
    )
    assert result.status == 0
    message = command("gate", results(folder / "one.json"), "--baseline", baseline)
    assert message.status == 1
    assert message.text.count("did not run on emulator 1x2") == 3


def test_a_test_may_begin_to_file_figures(folder: Path, baseline: Path) -> None:
    silent = record(metric="none", value=None, module="none", gate=None, note="its own assertions hold")
    old = results(folder / "silent.json", [silent])
    assert command("baseline", "update", old, "--baseline", baseline, "--reason", "silent").status == 0
    assert command("gate", results(folder / "new.json", [record()]), "--baseline", baseline).status == 0


def test_a_new_counter_fails_where_the_run_has_a_baseline_of_it(gate) -> None:
    other = replace(counter(9), test="suites/counters/test_passes.py::test_new", verdict="regression")
    assert gate([*RECORDS, other]).status == 1
    assert gate([*RECORDS, replace(other, verdict="pass")]).status == 0


def test_a_figure_that_vanished_from_its_test_fails(gate) -> None:
    message = gate([record(metric="rel_l2", value=0.01, direction="lower", gate=0.045), *RECORDS[1:]])
    assert message.status == 1
    assert "mesh 1x1: pcc: the test ran and no longer gives this figure" in message.text
    assert "1 new" in message.text


def test_a_test_that_is_now_skipped_fails(gate) -> None:
    skipped = record(metric="none", value=None, module="none", gate=None, verdict="not_compared")
    message = gate([replace(skipped, note="skipped: needs a card"), *RECORDS[1:]])
    assert message.status == 1
    assert f"{MLP}: no longer compared on emulator 1x1: skipped: needs a card" in message.text


def test_a_test_that_crashed_is_one_regression(gate) -> None:
    crashed = record(
        metric="none", value=None, gate=None, verdict="regression", note="call failed: out of pages"
    )
    message = gate([crashed, *RECORDS[1:]])
    assert message.status == 1
    assert "1 regression;" in message.text
    assert f"{MLP}: call failed: out of pages" in message.text


def test_a_missing_golden_cannot_be_judged(gate) -> None:
    missing = record(metric="none", value=None, gate=None, verdict="missing_golden", note="no golden mlp")
    message = gate([missing, *RECORDS[1:]])
    assert message.status == 2
    assert "missing_golden: no golden mlp" in message.text


def test_a_new_test_passes_and_is_told(gate) -> None:
    message = gate([*RECORDS, record("suites/modules/test_new.py::test_new")])
    assert message.status == 0
    assert "New, in no baseline:" in message.text


def test_a_new_test_that_misses_its_gate_fails(gate) -> None:
    assert gate([*RECORDS, record("suites/modules/test_new.py::test_new", value=0.9)]).status == 1


@pytest.mark.parametrize(
    "ops", [{"Matmul": 6.0, "SDPA": 2.0}, {"Matmul": 4.0, "SDPA": 3.0}], ids=["more", "others"]
)
def test_counters_are_exact(gate, ops: dict[str, float]) -> None:
    """As many ops of other names are a change too."""
    message = gate([*RECORDS[:2], counter(sum(ops.values()), **ops)])
    assert message.status == 1
    assert "Matmul" in message.text


def test_figures_of_one_test_that_agree_in_their_key_are_told_apart(
    folder: Path, gate, baseline: Path
) -> None:
    twice = [*RECORDS, record(value=0.9998)]
    result = command(
        "baseline", "update", results(folder / "b", twice), "--baseline", baseline, "--reason", "two"
    )
    assert "0 changed, 1 new, 0 gone of 4" in result.text
    assert gate(twice).status == 0
    assert "0.9991, baseline 0.9998" in gate([*RECORDS, record(value=0.9991)]).text


RELATIVE = """
metrics: {pcc: higher, kl: lower}
guidelines: []
gates:
  - {metric: pcc, value: 0.999}
  - {metric: pcc, relative: 0.0002}
  - {metric: kl, alpha: 0.01, effect: 0.5}
"""


@pytest.mark.parametrize(("value", "status"), [(0.9998, 0), (0.9996, 1), (0.998, 1)])
def test_a_relative_gate_reads_the_baseline(gate, folder: Path, value: float, status: int) -> None:
    policy = folder / "relative.yaml"
    policy.write_text(RELATIVE, encoding="utf-8")
    message = gate([record(value=value), *RECORDS[1:]], "--policy", policy)
    assert message.status == status
    assert ("may be worse by 0.0002 of it, " in message.text) == (value == 0.9996)


@pytest.mark.parametrize(
    ("value", "p_value", "detectable", "status"),
    [(0.1, 0.3, 0.2, 0), (0.9, 1e-4, 0.2, 1), (0.9, 0.3, 2.0, 2)],
)
def test_a_statistical_gate_reads_the_runs_paired_test(
    gate, folder: Path, value: float, p_value: float, detectable: float, status: int
) -> None:
    policy = folder / "statistical.yaml"
    policy.write_text(RELATIVE, encoding="utf-8")
    details = {"p_value": p_value, "detectable": detectable, "alpha": 0.01}
    kl = record("suites/accuracy/test_text.py::test_text", "kl", value, direction="lower", details=details)
    message = gate([*RECORDS, kl], "--policy", policy)
    assert message.status == status, message


def timed(seconds: float, clock: str = "host", spread: float = 0.002) -> Record:
    """A latency of 20 rounds."""
    samples = (
        tuple(seconds * (1 + spread * (i % 5 - 2)) for i in range(20)) if clock == "host" else (seconds,)
    )
    return record(
        "suites/latency/test_latency.py::test_decode",
        "step_time",
        seconds,
        clock=clock,
        samples=samples,
        gate=None,
        direction=None,
    )


def test_a_slower_run_is_told_from_noise_by_its_sessions(folder: Path) -> None:
    def sessions(name: str, *seconds: float) -> list[Path]:
        return [results(folder / f"{name}{i}.json", [timed(each)]) for i, each in enumerate(seconds)]

    baseline = folder / "baseline.json"
    old = sessions("old", 0.0101, 0.0099, 0.01)
    assert (
        command("baseline", "update", *old, "--baseline", baseline, "--reason", "three sessions").status == 0
    )
    assert command("gate", *sessions("same", 0.01, 0.0099, 0.0101), "--baseline", baseline).status == 0
    slower = command("gate", *sessions("slower", 0.012, 0.0121, 0.0119), "--baseline", baseline)
    assert slower.status == 1
    assert "step_time: 1.200 [1.1" in slower.text
    assert "host clock" in slower.text
    one = command("gate", *sessions("one", 0.012), "--baseline", baseline)
    assert one.status == 2
    assert "give 3 or more" in one.text


def test_a_modelled_time_is_exact(folder: Path) -> None:
    baseline = folder / "baseline.json"
    old = results(folder / "old.json", [timed(0.01, "model")])
    assert command("baseline", "update", old, "--baseline", baseline, "--reason", "modelled").status == 0
    assert command("gate", old, "--baseline", baseline).status == 0
    slower = command("gate", results(folder / "new.json", [timed(0.0101, "model")]), "--baseline", baseline)
    assert slower.status == 1
    assert "model clock" in slower.text


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"model": "llama"}, "model llama, the baseline is of model smollm2"),
        ({"weights_digest": "xyz"}, "weights digest xyz"),
        ({"emulator_mode": "exact"}, "emulator mode exact"),
        ({"goldens": "xyz"}, "goldens xyz"),
        ({"target": "silicon"}, "target silicon"),
    ],
)
def test_results_of_another_run_cannot_be_judged(gate, environment: dict[str, str], says: str) -> None:
    message = gate(**environment)
    assert message.status == 2
    assert message.text.count("\n") == 1
    assert says in message.text


def test_a_run_without_figures_cannot_be_judged(folder: Path) -> None:
    none = [record(metric="none", value=None, gate=None, verdict="not_compared", note="skipped: no card")]
    empty = results(folder / "none.json", none)
    path = folder / "empty.json"
    assert command("baseline", "update", empty, "--baseline", path, "--reason", "a dry run").status == 0
    assert command("gate", empty, "--baseline", path).status == 2


@pytest.mark.parametrize(
    "broken", ["truncated", "not JSON", "empty", "foreign", "a baseline", "absent", "folder"]
)
def test_a_broken_file_is_one_line(folder: Path, baseline: Path, broken: str) -> None:
    path = folder / "broken.json"
    whole = results(folder / "whole.json").read_text()
    content = {
        "truncated": whole[: len(whole) // 2],
        "not JSON": "PCC 0.999",
        "empty": "",
        "foreign": json.dumps({"schema": 1, "tests": []}),
        "a baseline": baseline.read_text(),
    }
    if broken in content:
        path.write_text(content[broken])
    elif broken == "folder":
        path.mkdir()
    for arguments in (
        ("gate", path, "--baseline", baseline),
        ("gate", whole_path := folder / "whole.json", "--baseline", path),
    ):
        if broken == "a baseline" and whole_path in arguments:
            continue
        message = command(*arguments)
        assert message.status == 2
        assert message.text.startswith("error: ")
        assert message.text.count("\n") == 1
        assert str(path) in message.text
