"""Is a difference between two runs over the same tokens more than chance? Paired tests, and what they could have seen.

Golden and device answer the same tokens, so what varies from token to token cancels in the difference: a paired test
sees changes that lie far below each side's own standard error. Every result says beside its p-value which change it
would have found with the wanted power, so that "nothing found" is not mistaken for "nothing there".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

ALPHA, POWER = 0.01, 0.8
RUN = 8  # consecutive tokens that stay together when tokens are resampled; see `paired_nll_test`
RESAMPLES = 5_000
SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedAccuracy:
    """Two answers to each of n questions, each right or wrong. `change` is device minus golden, a share of n."""

    change: float
    lost: int  # golden right, device wrong
    gained: int  # golden wrong, device right
    n: int
    p_value: float  # exact, two-sided: lost and gained are equally likely
    detectable: float  # the smallest loss that this test finds at `alpha` with the wanted power

    @property
    def loss(self) -> float:
        """Golden minus device: above 0 is worse."""
        return -self.change


@dataclass(frozen=True)
class PairedPerplexity:
    """The ratio device / golden of two perplexities over the same n tokens, with its interval."""

    ratio: float
    low: float  # bootstrap interval of the ratio, at confidence 1 - alpha
    high: float
    p_value: float  # two-sided, of a ratio of 1: t test over clusters
    detectable: float  # the smallest |ratio - 1| that this test finds at `alpha` with the wanted power
    stderr: float  # of the ratio, over clusters
    # Variance over clusters / variance of independent tokens; 1 where tokens do not correlate
    design_effect: float
    clusters: int
    n: int

    @property
    def change(self) -> float:
        """ratio - 1."""
        return self.ratio - 1.0


def paired_accuracy_test(
    golden_right: Tensor, device_right: Tensor, *, alpha: float = ALPHA, power: float = POWER
) -> PairedAccuracy:
    """Exact McNemar test. Two bool tensors of one shape: whether each side answered each question right.

    Only the flips tell the two apart: given lost + gained of them, `lost` is binomial with p = 1/2 where neither side is
    better (McNemar 1947; exact form: Fleiss, Levin and Paik 2003, 13.2). Two-sided by doubling the smaller tail.
    Raises ValueError when the shapes differ or there is no question.
    """
    golden, device = _pair(golden_right.bool(), device_right.bool(), "answers")
    lost, gained = int((golden & ~device).sum()), int((device & ~golden).sum())
    n = golden.numel()
    return PairedAccuracy(
        change=(gained - lost) / n,
        lost=lost,
        gained=gained,
        n=n,
        p_value=mcnemar_p(lost, gained),
        detectable=detectable_accuracy_change(n, lost + gained, alpha=alpha, power=power),
    )


def mcnemar_p(lost: int, gained: int) -> float:
    """The exact two-sided p-value of McNemar's test; 1 without a flip."""
    return min(1.0, 2.0 * float(special.bdtr(min(lost, gained), lost + gained, 0.5)))


def detectable_accuracy_change(n: int, flips: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest change, as a share of n, that `paired_accuracy_test` finds with that power; inf if none.

    The flips seen are taken for the usual noise, and a change adds flips of one direction to them. Exact: the sum over
    the number of flips of its probability and of the test's power given it.
    """
    noise = flips / n
    low, high = 0.0, 1.0 - noise
    if _mcnemar_power(n, noise, high, alpha) < power:
        return math.inf
    while (high - low) * n > 0.05:
        middle = (low + high) / 2
        low, high = (low, middle) if _mcnemar_power(n, noise, middle, alpha) >= power else (middle, high)
    return high


def paired_nll_test(
    golden_nll: Tensor,
    device_nll: Tensor,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
    run: int = RUN,
) -> PairedPerplexity:
    """Perplexity's ratio from two tensors [..., S] of the same tokens' negative log-likelihoods, in nats.

    A window is a slice along the last dimension. Neighbouring tokens of a window may err together, so what is resampled,
    and what counts as independent, is a run of `run` consecutive tokens that crosses no window's end. (On SmolLM2 over
    4,092 tokens in 4 windows they do not: the design effect is 1.0 to 1.1 in runs of 8, and 1.2 of whole windows.)
    p-value and detectable change: t test of the runs' mean with the variance of a ratio estimate (Cochran 1977, 6.4).
    Interval: percentiles of the bootstrap over runs (Efron 1979), set as far apart as Student's t asks with few runs
    (Hesterberg 2015, "What teachers should know about the bootstrap", 3.3). The draws are seeded: equal inputs give equal
    results. With a NaN or Inf everything but n is nan. Raises ValueError when the shapes differ or there are fewer than two
    runs.
    """
    golden, device = _pair(golden_nll, device_nll, "negative log-likelihoods", flat=False)
    differences = (device.double() - golden.double()).reshape(-1, golden.shape[-1])
    n = differences.numel()
    sums, sizes = _runs(differences, run)
    k = len(sums)
    if k < 2:
        raise ValueError(
            f"{n} tokens make {k} run of {run}: a paired test of perplexity needs two runs or more"
        )
    if not np.isfinite(sums).all():
        nan = math.nan
        return PairedPerplexity(nan, nan, nan, nan, nan, nan, nan, clusters=k, n=n)
    mean = sums.sum() / n
    residual = sums - mean * sizes
    stderr = math.sqrt(k / (k - 1) * float(residual @ residual)) / n
    independent = float(differences.var()) / n
    if stderr == 0.0:  # the same difference at every token
        p_value = 1.0 if mean == 0.0 else 0.0
    else:
        p_value = 2.0 * float(special.stdtr(k - 1, -abs(mean) / stderr))
    reach = float(special.stdtrit(k - 1, 1 - alpha / 2) + special.stdtrit(k - 1, power))
    low, high = _interval(sums, sizes, alpha)
    return PairedPerplexity(
        ratio=math.exp(mean),
        low=math.exp(low),
        high=math.exp(high),
        p_value=p_value,
        detectable=math.expm1(reach * stderr),
        stderr=math.exp(mean) * stderr,
        design_effect=stderr**2 / independent if independent else 1.0,
        clusters=k,
        n=n,
    )


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The adjusted p-value of each test of a run, in the order given; NaN stays NaN and counts as a test.

    Rejecting where the adjusted value is at most alpha keeps the expected share of false rejections among all at alpha or
    below, for independent or positively dependent tests (Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001).
    """
    m = len(p_values)
    order = sorted(
        (i for i in range(m) if not math.isnan(p_values[i])), key=lambda i: p_values[i], reverse=True
    )
    adjusted = [math.nan] * m
    least = 1.0
    for place, i in enumerate(order):
        least = min(least, p_values[i] * m / (len(order) - place))
        adjusted[i] = least
    return adjusted


def _pair(golden: Tensor, device: Tensor, what: str, flat: bool = True) -> tuple[Tensor, Tensor]:
    if golden.shape != device.shape or golden.numel() == 0:
        raise ValueError(
            f"{what} are not paired: golden {list(golden.shape)}, device {list(device.shape)}; "
            "give two of one shape with at least one element"
        )
    return (golden.reshape(-1), device.reshape(-1)) if flat else (golden, device)


def _mcnemar_power(n: int, noise: float, change: float, alpha: float) -> float:
    """Probability that the test rejects when noise * n flips fall either way and change * n more fall one way."""
    share = noise + change
    if share == 0.0:
        return 0.0
    spread = 8.0 * math.sqrt(n * share * (1 - share)) + 1
    flips = np.arange(max(0, int(n * share - spread)), min(n, math.ceil(n * share + spread)) + 1)
    weight = special.bdtr(flips, n, share) - np.where(flips > 0, special.bdtr(flips - 1, n, share), 0.0)
    # The largest count of the rarer kind that is still rejected; -1 where no split of so few flips is.
    critical = np.floor(special.bdtrik(alpha / 2, np.maximum(flips, 1), 0.5))
    critical = np.where(0.5**flips > alpha / 2, -1.0, critical)
    gained = (noise / 2) / share
    tail = np.where(critical >= 0, special.bdtr(np.maximum(critical, 0), flips, gained), 0.0)
    return float(weight @ tail)


def _runs(differences: Tensor, run: int) -> tuple[Floats, Floats]:
    """Sum and length of each run of [windows, S]; a window's last run is shorter where `run` does not divide S."""
    parts = differences.split(run, dim=1)
    sums = torch.cat([part.sum(1) for part in parts])
    sizes = torch.cat([torch.full((part.shape[0],), float(part.shape[1])) for part in parts])
    return sums.numpy(), sizes.double().numpy()


def _interval(sums: Floats, sizes: Floats, alpha: float) -> tuple[float, float]:
    k = len(sums)
    draws = np.random.default_rng(SEED).multinomial(k, np.full(k, 1 / k), RESAMPLES)
    means = (draws @ sums) / (draws @ sizes)
    tail = float(special.ndtr(-math.sqrt(k / (k - 1)) * special.stdtrit(k - 1, 1 - alpha / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
