"""Kullback-Leibler divergence of the device's next-token distribution from the golden's, token by token.

The figures are those of llama.cpp's ``--kl-divergence``, so that results compare: mean, maximum and quantiles of the
divergence, the change of the true token's probability, and how often both agree on the likeliest token. Beside them the
Jensen-Shannon divergence, which stays finite and weighs both sides' tokens.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.metrics.tensors import BLOCK_ELEMENTS, ShapeMismatch

QUANTILES = (99.9, 99.0, 95.0, 50.0, 5.0, 1.0, 0.1)  # percent


@dataclass(frozen=True)
class Divergence:
    """KL(golden || device) in nats. A row with a NaN or Inf logit makes mean and max nan."""

    mean: float
    stderr: float  # standard error of the mean, tokens taken as independent; nan for one token
    max: float
    js: float  # mean Jensen-Shannon divergence, nats: symmetric and at most ln 2
    quantiles: dict[float, float]  # percent -> nats, linear interpolation between order statistics
    mean_delta_p: float  # device's minus golden's probability of the true token; nan without tokens
    rms_delta_p: float
    same_top_p: float  # share of rows where both have the same likeliest token (ties: lowest index)
    worst_row: int  # flat row index of the largest divergence; the first not finite one if there is any
    n: int  # rows (tokens)
    per_token: Tensor = field(repr=False, compare=False)  # float64 [n]


def kl_divergence(golden_logits: Tensor, device_logits: Tensor, tokens: Tensor | None = None) -> Divergence:
    """Logits ``[..., S, V]`` (or ``[V]``) of both sides, computed in float64 in blocks of rows.

    tokens, if given, is ``[..., S]``: the sequence the logits were computed on. The true token of position s is
    ``tokens[..., s + 1]``; the last position of each sequence has none and is left out of the delta-p figures only.
    Raises ShapeMismatch when the logits' shapes differ, ValueError when there are no rows or tokens do not fit.
    """
    if golden_logits.shape != device_logits.shape:
        raise ShapeMismatch(tuple(device_logits.shape), tuple(golden_logits.shape))
    if golden_logits.numel() == 0:
        raise ValueError(
            f"KL divergence needs at least one row of logits, got shape {list(golden_logits.shape)}"
        )
    vocab = golden_logits.shape[-1]
    golden, device = golden_logits.detach().reshape(-1, vocab), device_logits.detach().reshape(-1, vocab)
    truth = None if tokens is None else _true_tokens(golden_logits, tokens)
    height = max(1, BLOCK_ELEMENTS // vocab)
    # Filled in place: small tensors kept from every block would fragment the heap between the large ones.
    kl, js, delta, same = torch.empty(4, golden.shape[0], dtype=torch.float64)
    for i in range(0, golden.shape[0], height):
        rows = slice(i, i + height)
        parts = _rows(golden[rows], device[rows], None if truth is None else truth[rows])
        for whole, part in zip((kl, js, delta, same), parts, strict=True):
            whole[rows] = part
    if truth is not None:
        delta = delta[truth >= 0]
    n = kl.numel()
    bad = ~torch.isfinite(kl)
    broken = bool(bad.any())
    levels = torch.tensor(QUANTILES, dtype=torch.float64) / 100
    spread = torch.full_like(levels, math.nan) if broken else torch.quantile(kl, levels)
    return Divergence(
        mean=math.nan if broken else float(kl.mean()),
        stderr=float(kl.std() / math.sqrt(n)) if n > 1 and not broken else math.nan,
        max=math.nan if broken else float(kl.max()),
        js=math.nan if broken else float(js.mean()),
        quantiles=dict(zip(QUANTILES, spread.tolist(), strict=True)),
        mean_delta_p=float(delta.mean()) if truth is not None and delta.numel() else math.nan,
        rms_delta_p=float(delta.square().mean().sqrt()) if truth is not None and delta.numel() else math.nan,
        same_top_p=float(same.mean()),
        worst_row=int(bad.int().argmax()) if broken else int(kl.argmax()),
        n=n,
        per_token=kl,
    )


def _rows(golden: Tensor, device: Tensor, truth: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """KL and JS [R] float64, change of the true token's p [R] float64, same likeliest token [R] bool."""
    same = golden.argmax(-1) == device.argmax(-1)
    g = golden.double().sub_(golden.amax(-1, keepdim=True))  # [R, V], largest entry 0
    d = device.double().sub_(device.amax(-1, keepdim=True))
    gap = g - d
    if truth is not None:
        index = truth.clamp(min=0)[:, None]
        true_g, true_d = g.gather(-1, index)[:, 0], d.gather(-1, index)[:, 0]
    p, q = g.exp(), d.exp()
    sum_g, sum_d = p.sum(-1), q.sum(-1)
    entropies = (
        sum_g.log() + sum_d.log() - torch.linalg.vecdot(p, g) / sum_g - torch.linalg.vecdot(q, d) / sum_d
    )
    # sum p (log p - log q), with log p = g - log sum_g and log q = d - log sum_d
    kl = torch.linalg.vecdot(p, gap) / sum_g - sum_g.log() + sum_d.log()
    kl = kl.clamp_(min=0.0)  # not negative by Gibbs; rounding leaves about -1e-15. clamp keeps NaN
    # Lin 1991: the entropy of the mean distribution less the mean of the entropies
    middle = p.div_(2 * sum_g[:, None]).add_(q.div_(2 * sum_d[:, None]))
    js = (torch.special.entr(middle).sum(-1) - entropies / 2).clamp_(min=0.0)
    delta = torch.zeros_like(kl) if truth is None else true_d.exp() / sum_d - true_g.exp() / sum_g
    return kl, js, delta, same


def _true_tokens(logits: Tensor, tokens: Tensor) -> Tensor:
    """Flat [rows] int64: the token that follows each row, -1 where none does."""
    if tokens.shape != logits.shape[:-1]:
        raise ValueError(
            f"tokens {list(tokens.shape)} do not fit logits {list(logits.shape)}: expected one a row"
        )
    if int(tokens.min()) < 0 or int(tokens.max()) >= logits.shape[-1]:
        raise ValueError(
            f"token ids must lie in [0, {logits.shape[-1]}), got {int(tokens.min())}..{int(tokens.max())}"
        )
    following = torch.full_like(tokens, -1, dtype=torch.int64)
    following[..., :-1] = tokens[..., 1:]
    return following.reshape(-1)
