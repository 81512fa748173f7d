"""Telling slower from noise, session by session."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from harness.gates.sessions import compare, compare_exact


def arm(mean: float, sessions: int = 5, spread: float = 0.002) -> list[np.ndarray]:
    """Quiet sessions of ten rounds."""
    generator = np.random.default_rng(int(mean * 1000))
    return [mean * (1 + spread * generator.standard_normal(10)) for _ in range(sessions)]


def test_slower_is_a_regression_and_the_interval_says_by_how_much() -> None:
    """10% slower in every session: the interval holds 1.10 and lies above the tolerated effect."""
    comparison = compare(arm(1.0), arm(1.1))
    assert comparison.verdict == "regression"
    assert comparison.low < 1.1 < comparison.high
    assert comparison.high - comparison.low < 0.01


def test_faster_is_never_red_and_is_offered_as_the_new_baseline() -> None:
    """10% faster passes as a new best; the same speed passes, and is none."""
    faster, same = compare(arm(1.0), arm(0.9)), compare(arm(1.0), arm(1.0))
    assert (faster.verdict, faster.best) == ("pass", True)
    assert (same.verdict, same.best) == ("pass", False)


def test_one_bad_session_of_three_is_no_regression_but_a_re_run() -> None:
    """All its rounds are 6% slower, which taken as ten independent rounds would look certain."""
    candidate = [*arm(1.0, 2), *arm(1.06, 1)]
    comparison = compare(arm(1.0, 3), candidate)
    assert comparison.verdict == "inconclusive"
    assert comparison.note == "run 6 sessions an arm"


def test_too_few_sessions_cannot_be_judged() -> None:
    """However slow: two processes say nothing about processes."""
    comparison = compare(arm(1.0, 5), arm(2.0, 2))
    assert comparison.verdict == "inconclusive"
    assert comparison.note == "2 sessions an arm; give 3 or more, each a process, in turns"


def test_sessions_may_have_different_numbers_of_rounds() -> None:
    """A session with fewer rounds counts as a session all the same."""
    candidate = [session[: 4 + i] for i, session in enumerate(arm(1.1))]
    assert compare(arm(1.0), candidate).verdict == "regression"


def test_the_same_samples_give_the_same_verdict() -> None:
    """The resamples are drawn from a seed."""
    assert compare(arm(1.0), arm(1.01)) == compare(arm(1.0), arm(1.01))


@pytest.mark.parametrize("bad", [[], [[]], [[0.0]], [[1.0], [-1.0]], [[float("nan")]]])
def test_samples_must_be_times(bad: list[list[float]]) -> None:
    """The message names the arm."""
    with pytest.raises(ValueError, match="candidate: give at least one session"):
        compare(arm(1.0), bad)


def test_modelled_times_have_no_noise_to_hide_in() -> None:
    """A tenth of a percent is a regression, the last bits of a sum are not."""
    assert compare_exact(1.0, 1.001).verdict == "regression"
    assert compare_exact(1.0, 1.0 + 1e-12).verdict == "pass"
    assert compare_exact(1.0, 0.9).best


def test_simulated_runs_with_a_noisy_session_each() -> None:
    """With 1% of noise a session: no wolf in forty runs without a change, and most of forty slowdowns by 5% found."""
    benchmark = Path(__file__).parents[2] / "benchmarks" / "latency_gate.py"
    verdicts = runpy.run_path(str(benchmark))["verdicts"]
    assert verdicts(1.0, 40, sessions=5, rerun=False)["regression"] == 0
    assert verdicts(1.05, 40, sessions=5, rerun=False)["regression"] >= 34
