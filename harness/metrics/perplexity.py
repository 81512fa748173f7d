"""Perplexity of a text under a model's logits, and its change from golden to device with a paired standard error."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.metrics.tensors import BLOCK_ELEMENTS


@dataclass(frozen=True)
class Perplexity:
    """value = exp(mean_nll). stderr is the perplexity's, by the delta method: value * sd(nll) / sqrt(n)."""

    value: float
    mean_nll: float  # nats a token
    stderr: float
    n: int  # predicted tokens
    nll: Tensor = field(repr=False, compare=False)  # float64 [..., S - 1]: of tokens 1 .. S-1


@dataclass(frozen=True)
class PerplexityChange:
    """change = device / golden - 1; stderr from the per-token differences, as both saw the same tokens."""

    change: float
    stderr: float
    n: int


def perplexity(logits: Tensor, tokens: Tensor) -> Perplexity:
    """Perplexity of tokens ``[..., S]`` under logits ``[..., S, V]`` computed on those very tokens.

    The shift is made here: the logits at position s are scored on ``tokens[..., s + 1]``, so position 0's token is
    never predicted and the logits of position S-1 are not used; n = S-1 for each sequence. Computed in float64.
    Raises ValueError when the shapes do not fit, S < 2, or a token id is not in [0, V).
    """
    if logits.dim() < 2 or logits.shape[:-1] != tokens.shape:
        raise ValueError(
            f"logits {list(logits.shape)} and tokens {list(tokens.shape)} do not fit: expected [..., S, V] and [..., S]"
        )
    if tokens.shape[-1] < 2 or tokens.numel() == 0:
        raise ValueError(
            f"perplexity needs at least two tokens a sequence, got tokens of shape {list(tokens.shape)}"
        )
    vocab = logits.shape[-1]
    lowest, highest = int(tokens.min()), int(tokens.max())
    if lowest < 0 or highest >= vocab:
        raise ValueError(f"token ids must lie in [0, {vocab}), got {lowest}..{highest}")
    sequences = logits.detach().reshape(-1, tokens.shape[-1], vocab)
    targets = tokens.reshape(-1, tokens.shape[-1])[:, 1:].long()
    parts = [_nll(rows[:-1], target) for rows, target in zip(sequences, targets, strict=True)]
    nll = torch.cat(parts)
    mean, n = float(nll.mean()), nll.numel()
    value = math.exp(mean) if mean < 700 else math.inf  # exp overflows float64 beyond 709; NaN compares false
    if math.isnan(mean):
        value = math.nan
    stderr = value * float(nll.std()) / math.sqrt(n) if n > 1 else math.nan
    return Perplexity(value, mean, stderr, n, nll.reshape(*tokens.shape[:-1], -1))


def perplexity_change(golden: Perplexity, device: Perplexity) -> PerplexityChange:
    """The relative change of perplexity. Raises ValueError when the two were not taken over equally many tokens."""
    if golden.nll.shape != device.nll.shape:
        raise ValueError(
            f"perplexities over different tokens: golden {list(golden.nll.shape)}, device {list(device.nll.shape)}"
        )
    differences = (device.nll - golden.nll).reshape(-1)
    ratio = torch.exp(differences.mean())
    n = differences.numel()
    stderr = float(ratio * differences.std()) / math.sqrt(n) if n > 1 else math.nan
    return PerplexityChange(float(torch.expm1(differences.mean())), stderr, n)


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    """[R, V], [R] -> [R] float64: log-sum-exp minus the target's logit."""
    height = max(1, BLOCK_ELEMENTS // logits.shape[-1])
    # Filled in place, so that blocks' memory is reused
    out = torch.empty(targets.shape[0], dtype=torch.float64)
    for i in range(0, targets.shape[0], height):
        rows = logits[i : i + height]
        scaled = rows.double().sub_(rows.amax(-1, keepdim=True))
        target = scaled.gather(-1, targets[i : i + height, None])[:, 0]
        out[i : i + height] = scaled.exp_().sum(-1).log_().sub_(target)
    return out
