"""How two results agree: of an op bit for bit, in ulps of the output's format, and in their error to fp32; of a model by KL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from harness.metrics import compare_tensors

BLOCK = 16  # elements of a block float that share an exponent
# Stored significand bits below the leading one; block floats count from the block's exponent.
FRACTION_BITS = {"BFLOAT16": 7, "FLOAT32": 23, "BFLOAT8_B": 6, "BFLOAT4_B": 2}
SMALLEST_NORMAL = 2.0**-126
SMALLEST = 1e-12  # probability; keeps the logarithm of what the kept tokens leave finite
BINS = (0.5, 1.5, 2.5, 4.5, 16.5)  # ulps; half ulps cannot occur, but in float32 results of other formats


@dataclass(frozen=True)
class Agreement:
    """Of `n` elements. 1-PCC and gain are nan where they are undefined (constant or not finite)."""

    n: int
    bit_exact: float  # share of elements with equal bits; NaN equals NaN
    within_2ulp: float  # share
    max_ulp: float
    histogram: tuple[float, ...]  # shares of 0, 1, 2, 3-4, 5-16, more ulps
    gap: float  # 1-PCC between the two

    @property
    def ulps(self) -> str:
        """The histogram in percent, as a report shows it."""
        return "/".join(f"{100 * share:.3g}" for share in self.histogram)


@dataclass(frozen=True)
class Error:
    """What one result differs from the exact one by."""

    gap: float  # 1-PCC
    norm_ratio: float
    gain: float  # least-squares factor on the exact result: what a systematic shrinking or growing leaves
    gain_stderr: float  # of that factor, if the rest of the error were independent noise


def agreement(ours: torch.Tensor, recorded: torch.Tensor, dtype: str) -> Agreement:
    """Compares two float32 tensors of one shape that hold values of a ttnn dtype (its name)."""
    if ours.shape != recorded.shape:
        raise ValueError(f"shapes differ: ours {list(ours.shape)}, recorded {list(recorded.shape)}")
    ours, recorded = ours.float().contiguous(), recorded.float().contiguous()
    equal = (ours.view(torch.int32) == recorded.view(torch.int32)) | (ours.isnan() & recorded.isnan())
    apart = (ours.double() - recorded.double()).abs() / ulp(recorded, dtype)
    apart = apart.nan_to_num(math.inf, math.inf).masked_fill(equal, 0.0)
    counts = torch.bucketize(apart.flatten(), torch.tensor(BINS, dtype=torch.float64))
    shares = torch.bincount(counts, minlength=len(BINS) + 1) / max(1, apart.numel())
    return Agreement(
        n=apart.numel(),
        bit_exact=float(equal.double().mean()),
        within_2ulp=float((apart <= 2).double().mean()),
        max_ulp=float(apart.max()),
        histogram=tuple(shares.tolist()),
        gap=1 - compare_tensors(ours, recorded).pcc if not bool(equal.all()) else 0.0,
    )


def error(result: torch.Tensor, exact: torch.Tensor) -> Error:
    """A result's error to the exact one, both of one shape."""
    comparison = compare_tensors(result, exact)
    x, y = exact.double().flatten(), result.double().flatten()
    energy = float(x @ x)
    gain = float(y @ x) / energy if energy and math.isfinite(energy) else math.nan
    rest = float((y - gain * x).square().sum())
    stderr = math.sqrt(rest / max(1, x.numel() - 1) / energy) if energy and rest >= 0 else math.nan
    return Error(1 - comparison.pcc, comparison.norm_ratio, gain, stderr)


def ulp(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """One unit in the last place of each value, float64: of a block float that of its block, the largest value's."""
    size = values.double().abs().nan_to_num(0.0, torch.finfo(torch.float32).max)
    if dtype in ("BFLOAT8_B", "BFLOAT4_B"):
        width = size.shape[-1]
        padded = torch.nn.functional.pad(size, (0, -width % BLOCK))
        blocks = (
            padded.unflatten(-1, (-1, BLOCK)).amax(-1, keepdim=True).expand(*padded.shape[:-1], -1, BLOCK)
        )
        size = blocks.flatten(-2)[..., :width]
    exponent = torch.frexp(size.clamp(min=SMALLEST_NORMAL))[1] - 1
    return torch.ldexp(torch.ones_like(size), exponent - FRACTION_BITS[dtype])


def partial_kl(recorded: Mapping[str, torch.Tensor], ids: torch.Tensor, logits: torch.Tensor) -> float:
    """Mean KL(recorded || logits) in nats, where only the likeliest logits were recorded: over the tokens `ids` [S, k] and all others taken as one.

    `recorded` holds "logits_at_golden_top64" [S, k] and "lse" [S]; `logits` are whole, [S, vocab]. Lumping the others
    can only lower a divergence (the log-sum inequality), by little where the k tokens hold nearly all probability.
    """
    theirs = _shares(recorded["logits_at_golden_top64"], recorded["lse"])
    ours = _shares(logits.gather(1, ids.long()), logits.double().logsumexp(1))
    return float((theirs * (theirs / ours).log()).sum(1).mean())


def _shares(logits: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """[S, k + 1]: probabilities of the k tokens and of all others."""
    shares = (logits.double() - lse.double()[:, None]).exp()
    rest = (1 - shares.sum(1, keepdim=True)).clamp(min=SMALLEST)
    return torch.cat([shares, rest], 1)
