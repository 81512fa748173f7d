"""A sketch of logits, and what the metrics make of it beside the whole ones."""

from __future__ import annotations

import math

import pytest
import torch

from goldens import GoldenError
from goldens.sketch import KEPT, STEP, TOP, sketch
from harness.metrics import (
    ShapeMismatch,
    kl_bounds,
    kl_divergence,
    perplexity,
    sketched_agreement,
    sketched_perplexity,
    token_agreement,
)
from harness.metrics import sketched as reader

Sketch = dict[str, torch.Tensor]


def logits(noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Golden and device logits [2, 30, 3000] with a heavy tail, and tokens [2, 30]."""
    generator = torch.Generator().manual_seed(seed)
    golden = 3 * torch.randn(2, 30, 3000, generator=generator)
    device = golden + noise * torch.randn(golden.shape, generator=generator)
    return golden, device, torch.randint(0, 3000, (2, 30), generator=generator)


def sketched(golden: torch.Tensor, tokens: torch.Tensor) -> Sketch:
    following = torch.full_like(tokens, -1)
    following[:, :-1] = tokens[:, 1:]
    return sketch(golden, following)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3, 3.0])
def test_the_bounds_hold_for_every_token(noise: float) -> None:
    """The exact KL of each row lies between its bounds, for a device near, far and beyond all likeness."""
    golden, device, tokens = logits(noise)
    bounds = kl_bounds(sketched(golden, tokens), device)
    exact = kl_divergence(golden, device).per_token
    assert (bounds.low_per_token <= exact + 1e-9).all()
    assert (bounds.high_per_token >= exact - 1e-9).all()
    assert bounds.low <= float(exact.mean()) + 1e-9 <= bounds.high + 2e-9


def test_the_bounds_are_tight() -> None:
    """For a device off by what bfloat16 costs they are apart by less than .001 nats, with most mass in the tail."""
    golden, device, tokens = logits(0.05)
    summary = sketched(golden, tokens)
    assert float(summary["mass"].sum(-1).mean()) > 0.25
    bounds = kl_bounds(summary, device)
    assert bounds.high - bounds.low < 0.001


def test_an_adversary_cannot_leave_the_bounds() -> None:
    """A device that moves mass within each code, where the sketch is blind, still lies between them."""
    golden, _, tokens = logits(0.0)
    for direction in (1.0, -1.0):
        device = golden + direction * (golden / STEP).frac()
        bounds = kl_bounds(sketched(golden, tokens), device)
        exact = kl_divergence(golden, device).per_token
        assert (bounds.low_per_token <= exact + 1e-9).all()
        assert (bounds.high_per_token >= exact - 1e-9).all()


def test_agreement_and_perplexity_are_exact() -> None:
    """Top-1, top-5 and the golden's perplexity are those of the whole logits."""
    golden, device, tokens = logits(0.5)
    summary = sketched(golden, tokens)
    assert sketched_agreement(summary, device) == token_agreement(golden, device)
    rows = torch.ones_like(tokens, dtype=torch.bool)
    rows[:, -1] = False
    whole, partial = perplexity(golden, tokens), sketched_perplexity(summary, rows)
    torch.testing.assert_close(partial.nll.reshape(whole.nll.shape), whole.nll, rtol=0, atol=1e-9)
    assert partial.value == pytest.approx(whole.value)
    assert partial.n == whole.n


def test_broken_logits_pass_nothing() -> None:
    """A NaN makes the bounds nan and the row a miss."""
    golden, device, tokens = logits(0.01)
    device[0, 3, 5] = math.nan
    summary = sketched(golden, tokens)
    bounds = kl_bounds(summary, device)
    assert math.isnan(bounds.low)
    assert math.isnan(bounds.high)
    assert 3 in sketched_agreement(summary, device).misses


def test_a_truncated_or_other_shape_is_refused() -> None:
    """Fewer rows than the golden, or another vocabulary, are named."""
    golden, device, tokens = logits(0.01)
    summary = sketched(golden, tokens)
    with pytest.raises(ShapeMismatch, match=r"actual \[2, 29, 3000\], golden \[2, 30, 3000\]"):
        kl_bounds(summary, device[:, :-1])
    with pytest.raises(ShapeMismatch):
        kl_bounds(summary, device[..., :2000])
    with pytest.raises(GoldenError, match="a vocabulary of 32 is not sketched"):
        sketch(torch.zeros(1, TOP), torch.zeros(1, dtype=torch.int64))


def test_writer_and_reader_mean_the_same() -> None:
    """The two sides, which must not import each other, name the same step and the same code for what is kept whole."""
    assert (STEP, KEPT) == (reader.STEP, reader.KEPT)


def test_it_is_a_quarter_of_the_logits() -> None:
    """At a real vocabulary, SmolLM2's 49,152 tokens."""
    golden = torch.randn(1, 49152)
    sketched = sketch(golden, torch.zeros(1, dtype=torch.int64))
    assert sum(t.numel() * t.element_size() for t in sketched.values()) < 0.28 * golden.numel() * 4
