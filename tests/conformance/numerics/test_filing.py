"""How the suite files figures: everything before anything fails, judged only where the mode promises it."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.numerics import filing
from harness.conformance.numerics.filing import Filing, of_precision
from harness.conformance.numerics.layer import Outcome
from harness.conformance.numerics.recordings import Step, TensorSpec
from harness.gates.policy import Policy
from harness.results.schema import Record
from harness.run.recorder import Recorder, Regression

RECORDED = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).bfloat16().float()
BASE = Record(
    test="t",
    module="none",
    metric="none",
    value=None,
    verdict="not_compared",
    target="emulator",
    precision="none",
)


def in_mode(monkeypatch: pytest.MonkeyPatch, mode: str) -> tuple[Filing, list[Record]]:
    filed: list[Record] = []
    monkeypatch.setattr(filing, "mode", lambda: mode)
    return Filing(Recorder(BASE, Policy.load(), filed.append, mode=mode)), filed


def outcome(ours: torch.Tensor | None) -> Outcome:
    spec = TensorSpec("out", "BFLOAT16", "TILE", (32, 64))
    return Outcome(Step("out", "ttnn.add", (spec, spec), {}, (spec,)), spec, ours, RECORDED, reason="why not")


def test_all_is_filed_before_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first miss does not hide what comes after; the failure names each miss with its point."""
    suite, filed = in_mode(monkeypatch, "exact")
    suite.outcome(outcome(RECORDED + 1))
    suite.outcome(outcome(RECORDED))
    with pytest.raises(Regression, match=r"out, add bf16 x bf16 -> bf16: .*bit_exact 0"):
        suite.close()
    verdicts = [record.verdict for record in filed if record.metric == "bit_exact"]
    assert verdicts == ["regression", "pass"]
    assert all(record.gate == 1.0 for record in filed if record.metric == "bit_exact")


def test_in_mode_fast_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same wrong result is filed, says that no gate holds, and fails nothing."""
    suite, filed = in_mode(monkeypatch, "fast")
    suite.outcome(outcome(RECORDED + 1))
    suite.error("mean KL", 2.0, 1.0, 8, "model")
    suite.close()
    assert {(record.gate, record.note) for record in filed} == {(None, "not gated in mode fast")}
    assert {record.metric for record in filed} >= {"bit_exact", "error_change"}


def test_what_was_not_computed_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record says which output, and why."""
    suite, filed = in_mode(monkeypatch, "exact")
    suite.outcome(outcome(None))
    suite.close()
    assert [(record.verdict, record.note) for record in filed] == [("not_compared", "out: why not")]


@pytest.mark.parametrize(("ours", "recorded", "change"), [(1.2, 1.0, 0.2), (0.8, 1.0, 0.2), (0.0, 0.0, 0.0)])
def test_an_error_may_be_neither_larger_nor_smaller(
    monkeypatch: pytest.MonkeyPatch, ours: float, recorded: float, change: float
) -> None:
    """An emulator that is more accurate than the device is wrong too."""
    suite, filed = in_mode(monkeypatch, "device")
    suite.error("mean KL", ours, recorded, 8, "model")
    assert filed[0].value == pytest.approx(change)
    assert filed[0].verdict == ("regression" if change > 0.15 else "pass")


def test_the_gate_of_the_whole_model_depends_on_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the recorded divergence is allowed in mode device, a quarter in mode exact."""
    verdicts = {}
    for mode in ("device", "exact"):
        suite, filed = in_mode(monkeypatch, mode)
        suite.figure("kl_share", 0.4, 32, "model", {"what": "KL"}, judged=True)
        verdicts[mode] = filed[0].verdict
    assert verdicts == {"device": "pass", "exact": "regression"}


def test_a_test_may_run_a_policy_of_its_own() -> None:
    """Its records carry that policy's name."""
    filed: list[Record] = []
    recorder = of_precision(Recorder(BASE, Policy.load(), filed.append), "performance")
    recorder.judge({"bit_exact": 1.0}, 1, "eltwise")
    assert filed[0].precision == "performance"
