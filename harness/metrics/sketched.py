"""KL divergence, agreement and perplexity against a golden of which a sketch was kept (`goldens/sketch.py` says what it holds).

Agreement and perplexity are exact: what they need was kept. Of KL(golden || device) = sum p log p - sum p log q the first sum
is known, and of the second the part of the likeliest tokens. For the tokens of one code, whose p lie between a and b and
sum to P, with m the mean of log q over them, sum p log q = P m + sum (p - c)(log q - m) for any c; with c = (a + b) / 2 the
last sum is at most (b - a) / 2 sum |log q - m| on either side. The lower bound is the larger of that and of the log-sum
inequality, P log(P / Q), with Q the device's mass on those tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.metrics.perplexity import Perplexity
from harness.metrics.tensors import ShapeMismatch
from harness.metrics.tokens import TokenAgreement

STEP, KEPT = 1 / 16, 255  # nats a code; code of the tokens whose probabilities were kept
ROWS = 32  # at a time


@dataclass(frozen=True)
class DivergenceBounds:
    """What KL(golden || device) in nats lies between. A row with a NaN or Inf logit makes both nan."""

    low: float  # of the mean
    high: float
    n: int  # rows (tokens)
    low_per_token: Tensor = field(repr=False, compare=False)  # float64 [n]
    high_per_token: Tensor = field(repr=False, compare=False)


def kl_bounds(sketch: Mapping[str, Tensor], device_logits: Tensor) -> DivergenceBounds:
    """Bounds from a sketch with leading dimensions [...] and logits [..., V], in float64.

    Raises ShapeMismatch when the logits have other rows or another vocabulary than the sketch.
    """
    expected = tuple(sketch["codes"].shape)
    vocab = expected[-1]
    if tuple(device_logits.shape) != expected:
        raise ShapeMismatch(tuple(device_logits.shape), expected)
    device = device_logits.detach().reshape(-1, vocab)
    flat = {name: tensor.reshape(len(device), -1) for name, tensor in sketch.items()}
    low, high = torch.empty(2, len(device), dtype=torch.float64)
    for i in range(0, len(device), ROWS):
        rows = slice(i, i + ROWS)
        low[rows], high[rows] = _rows({name: tensor[rows] for name, tensor in flat.items()}, device[rows])
    broken = not bool(torch.isfinite(high).all())
    return DivergenceBounds(
        low=math.nan if broken else float(low.mean()),
        high=math.nan if broken else float(high.mean()),
        n=len(device),
        low_per_token=low,
        high_per_token=high,
    )


def sketched_agreement(sketch: Mapping[str, Tensor], device_logits: Tensor) -> TokenAgreement:
    """`token_agreement` with the golden's five likeliest tokens from a sketch. A row that is not finite is a miss."""
    vocab = device_logits.shape[-1]
    device = device_logits.detach().reshape(-1, vocab)
    top = sketch["top_ids"].reshape(len(device), -1)
    best, pick = device.max(-1)
    hits = (top[:, :5] == pick[:, None]) & best.isfinite()[:, None]
    n = len(device)
    misses, misses_top5 = (tuple((~hit).nonzero()[:, 0].tolist()) for hit in (hits[:, 0], hits.any(-1)))
    return TokenAgreement(1 - len(misses) / n, 1 - len(misses_top5) / n, n, misses, misses_top5)


def sketched_perplexity(sketch: Mapping[str, Tensor], rows: Tensor) -> Perplexity:
    """The golden's perplexity over the rows that a bool mask [...] picks; its nll is flat."""
    nll = -sketch["true_logprob"][rows]
    mean, n = float(nll.mean()), nll.numel()
    value = math.exp(mean)
    stderr = value * float(nll.std()) / math.sqrt(n) if n > 1 else math.nan
    return Perplexity(value, mean, stderr, n, nll)


def _rows(sketch: Mapping[str, Tensor], device: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds [R] of rows [R, V]."""
    log_q = device.double().log_softmax(-1)
    top, p_top = sketch["top_ids"].long(), sketch["top_logprobs"].exp()
    likeliest = (p_top * (sketch["top_logprobs"] - log_q.gather(1, top))).sum(-1)
    codes = sketch["codes"].long()

    def sums(values: Tensor) -> Tensor:
        """[R, V] -> [R, 255]: over the tokens of each code."""
        return torch.zeros(len(device), KEPT + 1, dtype=torch.float64).scatter_add_(1, codes, values)[
            :, :KEPT
        ]

    count = sums(torch.ones_like(log_q)).clamp_(min=1)
    mean = sums(log_q) / count
    means = torch.cat([mean, torch.zeros(len(device), 1, dtype=torch.float64)], 1)
    spread = sums((log_q - means.gather(1, codes)).abs())
    mass, entropy = sketch["mass"], sketch["entropy"]
    steps = torch.arange(KEPT + 1, dtype=torch.float64) * -STEP
    edges = p_top[:, -1:] * steps.exp()
    edges[:, KEPT] = 0.0  # below the last step there is no end
    slack = (edges[:, :-1] - edges[:, 1:]) / 2 * spread
    middle = entropy - mass * mean
    q = sums(log_q.exp())
    coarse = torch.where(mass > 0, mass * (mass.log() - q.log()), 0.0)
    low = torch.maximum(middle - slack, coarse)
    return (likeliest + low.sum(-1)).clamp_(min=0.0), (likeliest + (middle + slack).sum(-1)).clamp_(min=0.0)
