"""Is one set of timings slower than another, or is that noise? Told from several sessions, each a process of its own.

Two runs of the same code differ by more than the rounds within a run do: another clock, another page layout, another
neighbour. A test that takes all rounds for independent cries wolf in a quarter of runs. Here whole sessions are drawn, then
rounds within them (a bootstrap of clusters: Davison and Hinkley, Bootstrap Methods and their Application, 3.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

ALPHA = 0.01  # chance that the interval misses, both sides together
EFFECT = 0.02  # a slowdown of no more than this is none
ENOUGH = 3  # sessions an arm
MOST = 12  # sessions an arm, after which more would not help
RESAMPLES = 4000
SEED = 0

Sessions = Sequence[Sequence[float]]  # the seconds of each round, by session
Times = npt.NDArray[np.float64]
Verdict = Literal["pass", "regression", "inconclusive"]


@dataclass(frozen=True)
class Comparison:
    """The candidate's median over the baseline's, with its confidence interval. Above 1 is slower.

    `best`: faster beyond doubt, so that it may become the new baseline. `note`: what to do, where nothing could be said.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict
    best: bool = False
    note: str = ""


def compare(
    baseline: Sessions, candidate: Sessions, *, effect: float = EFFECT, alpha: float = ALPHA, seed: int = SEED
) -> Comparison:
    """A regression where the whole interval lies above 1 + effect, a pass where it lies below, else inconclusive.

    Faster is always a pass. Inconclusive comes with the re-run rule: as many sessions again, up to MOST an arm, in turns
    (A B A B), because a machine drifts. Raises ValueError for an arm without samples, or with one that is not positive.
    """
    arms = [[np.asarray(session, dtype=float) for session in arm] for arm in (baseline, candidate)]
    for name, arm in zip(("baseline", "candidate"), arms, strict=True):
        if not arm or any(session.size == 0 or not (session > 0).all() for session in arm):
            raise ValueError(f"{name}: give at least one session, each of at least one time above 0")
    before, after = (float(np.median(np.concatenate(arm))) for arm in arms)
    ratio = after / before
    fewest = min(len(arm) for arm in arms)
    if fewest < ENOUGH:
        note = (
            f"{fewest} session{'s' * (fewest != 1)} an arm; give {ENOUGH} or more, each a process, in turns"
        )
        return Comparison(ratio, float("nan"), float("nan"), "inconclusive", note=note)
    generator = np.random.default_rng(seed)
    drawn = [_medians(arm, generator) for arm in arms]
    low, high = (float(q) for q in np.quantile(drawn[1] / drawn[0], (alpha / 2, 1 - alpha / 2)))
    if low > 1 + effect:
        return Comparison(ratio, low, high, "regression")
    if high <= 1 + effect:
        return Comparison(ratio, low, high, "pass", best=high < 1)
    more = min(2 * fewest, MOST)
    note = (
        f"run {more} sessions an arm" if more > fewest else f"not told from noise by {fewest} sessions an arm"
    )
    return Comparison(ratio, low, high, "inconclusive", note=note)


def compare_exact(baseline: float, candidate: float) -> Comparison:
    """Of figures without noise, such as modelled times: any increase is a regression."""
    ratio = candidate / baseline
    same = abs(ratio - 1) < 1e-9  # the same sum in another order
    verdict: Verdict = "pass" if same or ratio < 1 else "regression"
    return Comparison(ratio, ratio, ratio, verdict, best=ratio < 1 and not same)


def _medians(arm: list[Times], generator: np.random.Generator) -> Times:
    """The median of each resample: sessions with replacement, and of each its rounds with replacement. [RESAMPLES]."""
    sizes = [session.size for session in arm]
    rounds = max(sizes)
    # [RESAMPLES, sessions, rounds]; a session of fewer rounds is drawn from more often, which changes no quantile
    picks = generator.integers(len(arm), size=(RESAMPLES, len(arm), 1))
    places = (generator.random((RESAMPLES, len(arm), rounds)) * np.asarray(sizes)[picks]).astype(int)
    padded = np.stack([np.resize(session, rounds) for session in arm])
    return np.asarray(np.median(padded[picks, places].reshape(RESAMPLES, -1), axis=1))
