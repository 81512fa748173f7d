"""Which figures of an op are judged in which mode, and what a row says of its setting."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.conformance.numerics.layer import Outcome
from harness.conformance.numerics.recordings import Recording, Step, TensorSpec
from harness.conformance.numerics.replay import digest
from harness.conformance.numerics.rows import JUDGED, row, setting

RECORDED = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).bfloat16().float()


def outcome(op: str = "ttnn.matmul", recorded: torch.Tensor | None = RECORDED, **changes: Any) -> Outcome:
    spec = TensorSpec("out", "BFLOAT16", "TILE", (32, 64), sha=digest(RECORDED))
    step = Step("out", op, (spec, spec), {}, (spec,))
    fields = {"ours": RECORDED, "recorded": recorded, "exact": RECORDED.double() * 1.001} | changes
    return Outcome(step, spec, **fields)


@pytest.mark.parametrize(
    ("op", "mode", "names"),
    [
        ("ttnn.matmul", "exact", {"bit_exact"}),
        ("ttnn.rms_norm", "exact", {"within_2ulp", "recorded_gap"}),
        ("ttnn.add", "device", {"bit_exact"}),
        ("ttnn.matmul", "device", set()),
        ("ttnn.matmul", "fast", set()),
        ("ttnn.reshape", "device", {"bit_exact"}),
    ],
)
def test_each_mode_promises_its_own(op: str, mode: str, names: set[str]) -> None:
    """Judged is what the mode promises of the op; the other figures are shown."""
    judged = row(outcome(op), mode)
    assert set(judged.judged) == names
    assert not names & set(judged.shown)
    assert {"bit_exact", "within_2ulp", "recorded_gap"} <= {*judged.judged, *judged.shown}


def test_every_mode_has_its_say_on_every_kind() -> None:
    """No mode and no kind of op is without an answer."""
    kinds = {frozenset(of_kind) for of_kind in JUDGED.values()}
    assert kinds == {frozenset({"vector", "matmul", "exact", "sfpu", "composed"})}


def test_equal_results_have_no_share_of_the_error() -> None:
    """Ours is the recorded output: nothing sets the two apart, whatever error both have."""
    noisy = RECORDED.double() + 0.01 * torch.randn(32, 64, dtype=torch.float64)
    judged = row(outcome(exact=noisy * 1.05), "device", vector=True)
    assert judged.judged["gap_share"] == 0.0
    assert judged.judged["bias_change"] == 0.0


def test_a_bias_within_its_noise_is_not_judged() -> None:
    """Where the recorded output has no significant bias, its change means nothing."""
    noise = 0.02 * torch.randn(32, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    judged = row(outcome(exact=RECORDED.double() + noise - noise.mean()), "device", vector=True)
    assert set(judged.judged) == {"gap_share"}


def test_a_tensor_kept_as_a_digest_is_equal_or_not() -> None:
    """Without recorded values the share is all or nothing, and only equality can be judged."""
    assert row(outcome(recorded=None), "exact").judged == {"bit_exact": 1.0}
    other = row(outcome(recorded=None, ours=RECORDED + 1), "exact")
    assert other.judged == {"bit_exact": 0.0}
    assert other.details["compared"] == "by digest"


def test_the_last_rows_are_compared_where_only_they_were_kept() -> None:
    """A recording of the last rows of a long output is held against those rows."""
    assert row(outcome(recorded=RECORDED[-8:]), "exact").n == 8 * 64


def test_a_matmuls_setting_is_told_in_full() -> None:
    """Formats, fidelity, destination, K, blocks and how partials are kept."""
    steps = {step.point: step for step in Recording("ops").steps}
    call = steps["matmul_K256_HiFi4_bf16xbf16_bf16_fp32acc0_l1acc1_bw8"]
    assert (
        setting(call, call.outputs[0])
        == "matmul bf16 x bf16 -> bf16, HiFi4 bf16 dest, K256, blocks of 8, L1 acc"
    )
    attention = {step.point: step for step in Recording("sdpa").steps}
    for approximate, told in ((0, "accurate exp"), (1, "approximate exp")):
        one = attention[f"attn_S128_bfp8_q32k32_HiFi4_fp32acc0_approx{approximate}"]
        words = "scaled_dot_product_attention bfp8 x bfp8 -> bfp8, HiFi4 bf16 dest, S128 chunks 32/32"
        assert setting(one, one.outputs[0]) == f"{words}, {told}"
