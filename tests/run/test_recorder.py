"""From a measured value to filed records and a failing test."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from harness.gates.policy import Policy, PolicyError
from harness.metrics import compare_tensors
from harness.results.schema import Record
from harness.run.recorder import TENSOR_METRICS, Details, PairedTest, Recorder, Regression


def recorder_of(module: str = "mlp", policy: Policy | None = None) -> tuple[Recorder, list[Record]]:
    filed: list[Record] = []
    base = Record(
        test="test_x",
        module=module,
        metric="none",
        value=None,
        verdict="not_compared",
        target="emulator",
        precision="accuracy",
        phase="prefill",
        seq_len=8,
        layer=0 if module == "mlp" else None,
    )
    return Recorder(base, policy or Policy.load(), filed.append), filed


@pytest.fixture
def golden() -> torch.Tensor:
    return torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(1))


def test_equal_tensors_file_one_passing_record_a_metric(golden: torch.Tensor) -> None:
    """A perfect match passes every gate, with the gate, the element count and the companions in each record."""
    recorder, filed = recorder_of()
    recorder.compare(golden.clone(), golden)
    assert tuple(record.metric for record in filed) == TENSOR_METRICS
    for record in filed:
        assert record.verdict == "pass"
        assert record.n == golden.numel()
        assert record.gate is not None
        assert record.details["max_abs"] == 0.0


def test_every_metric_is_filed_before_the_test_fails(golden: torch.Tensor) -> None:
    """A first missed gate does not keep the later figures from being filed, and the message has a line for each miss."""
    recorder, filed = recorder_of()
    with pytest.raises(Regression) as failure:
        recorder.compare(golden + torch.randn_like(golden), golden)
    assert tuple(record.metric for record in filed) == TENSOR_METRICS
    missed = [record.metric for record in filed if record.verdict == "regression"]
    assert {"pcc", "worst_row_pcc", "rel_l2", "worst_row_rel_l2"} <= set(missed)
    lines = str(failure.value).splitlines()
    assert len(lines) == len(missed)
    assert all(
        metric in line and "gate" in line and "policy.yaml:" in line
        for metric, line in zip(missed, lines, strict=True)
    )


@pytest.mark.parametrize("module", ["model", "lm_head"])
def test_logits_are_judged_free_of_a_constant_in_each_row(golden: torch.Tensor, module: str) -> None:
    """Adding a constant to a row of logits changes no probability: relative error and norm must not see it."""
    shift = torch.linspace(-20, 20, 16).reshape(2, 8, 1)
    recorder, filed = recorder_of(module)
    with pytest.raises(Regression):  # the PCC is that of the logits as they are
        recorder.compare(golden + shift, golden)
    verdicts = {record.metric: record.verdict for record in filed}
    assert verdicts.pop("pcc") == "regression"
    assert set(verdicts.values()) == {"pass"}


def test_activations_are_judged_with_their_mean(golden: torch.Tensor) -> None:
    """What is harmless in logits is an error in a hidden state."""
    recorder, filed = recorder_of("mlp")
    with pytest.raises(Regression, match="rel_l2"):
        recorder.compare(golden + 1.0, golden)
    assert {record.metric: record.verdict for record in filed}["rel_l2"] == "regression"


def test_a_shape_mismatch_is_a_regression(golden: torch.Tensor) -> None:
    """Tensors that cannot be compared fail the test, are filed, and both shapes are named."""
    recorder, filed = recorder_of()
    with pytest.raises(Regression, match=r"actual \[2, 7, 64\], golden \[2, 8, 64\]"):
        recorder.compare(golden[:, :7], golden)
    assert [(record.verdict, record.value) for record in filed] == [("regression", None)]
    assert "[2, 7, 64]" in filed[0].note


@pytest.mark.parametrize("metric", ["pcc", "rel_l2", "kl", "top1", "perplexity_error"])
def test_a_nan_metric_is_a_regression(metric: str) -> None:
    """NaN passes no gate, whichever direction is better."""
    recorder, filed = recorder_of("model")
    with pytest.raises(Regression, match=f"{metric} nan"):
        recorder.judge({metric: math.nan}, n=1)
    assert filed[0].verdict == "regression"


def test_a_metric_without_a_gate_is_an_error(tmp_path: Path) -> None:
    """A gate that cannot be looked up surfaces as an error and files no passing record."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "metrics: {pcc: higher, kl: lower}\nguidelines: []\n"
        "gates:\n- {metric: pcc, module: attention, value: 0.9}\n- {metric: kl, value: 0.1}\n"
    )
    recorder, filed = recorder_of("mlp", Policy.load(policy))
    with pytest.raises(PolicyError, match="no gate for metric=pcc, module=mlp"):
        recorder.judge({"pcc": 1.0}, n=1)
    with pytest.raises(PolicyError, match="no metric 'typo'"):
        recorder.judge({"typo": 1.0}, n=1)
    assert filed == []


def test_noted_figures_are_not_judged() -> None:
    """A figure filed for comparison carries no gate, however bad it is."""
    recorder, filed = recorder_of("model")
    recorder.note({"pcc": 0.0}, n=3, target="torch", precision="bf16")
    assert [(r.value, r.gate, r.verdict, r.target) for r in filed] == [(0.0, None, "pass", "torch")]


def test_the_figures_filed_are_those_of_the_metrics(golden: torch.Tensor) -> None:
    """The recorder passes on what harness.metrics computes, unchanged."""
    noisy = golden + 0.001 * torch.randn(golden.shape, generator=torch.Generator().manual_seed(2))
    recorder, filed = recorder_of()
    recorder.compare(noisy, golden)
    expected = compare_tensors(noisy, golden)
    assert {record.metric: record.value for record in filed} == {
        metric: float(getattr(expected, metric)) for metric in TENSOR_METRICS
    }


def paired(p_value: float, detectable: float) -> tuple[dict[str, PairedTest], list[tuple[float, float]]]:
    asked: list[tuple[float, float]] = []

    def test(alpha: float, power: float) -> Details:
        asked.append((alpha, power))
        return {"p_value": p_value, "detectable": detectable}

    return {"perplexity_error": test}, asked


@pytest.mark.parametrize(
    ("value", "p_value", "detectable", "verdict"),
    [(0.2, 1e-6, 0.001, "regression"), (0.2, 0.5, 0.9, "inconclusive"), (0.001, 0.5, 0.001, "pass")],
)
def test_a_statistical_gate_is_filed_and_settled_later(
    value: float, p_value: float, detectable: float, verdict: str
) -> None:
    """The paired test is asked at the gate's own alpha and power; its figures travel with the record, and nothing raises yet."""
    recorder, filed = recorder_of("model")
    tests, asked = paired(p_value, detectable)
    recorder.judge({"perplexity_error": value}, n=2046, details={"perplexity": 13.0}, paired=tests)
    assert asked == [(0.01, 0.8)]
    assert filed[0].verdict == verdict
    assert filed[0].details == {
        "perplexity": 13.0,
        "alpha": 0.01,
        "power": 0.8,
        "p_value": p_value,
        "detectable": detectable,
    }


def test_without_its_test_a_statistical_gate_is_a_bound() -> None:
    """A figure beyond the effect that comes without a paired test fails at once."""
    recorder, filed = recorder_of("model")
    with pytest.raises(Regression, match=r"perplexity_error 0\.2 > gate"):
        recorder.judge({"perplexity_error": 0.2}, n=1)
    assert filed[0].verdict == "regression"
