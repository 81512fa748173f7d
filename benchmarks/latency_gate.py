"""How often the latency gate cries wolf, and how often it sleeps, on simulated runs: `python benchmarks/latency_gate.py`.

A session's rounds are lognormal around the session's own mean, which varies by `SESSION_NOISE` from session to session.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np

from harness.gates.sessions import MOST, compare

SEED = 20251
SESSION_NOISE, ROUND_NOISE = 0.01, 0.01
SESSIONS, ROUNDS = 5, 20
RUNS = 150


def arm(generator: np.random.Generator, sessions: int, slower: float) -> list[np.ndarray]:
    """The rounds of each session, around a second."""
    means = slower * np.exp(generator.normal(0, SESSION_NOISE, sessions))
    return [mean * np.exp(generator.normal(0, ROUND_NOISE, ROUNDS)) for mean in means]


def verdicts(slower: float, runs: int, sessions: int, rerun: bool) -> Counter[str]:
    """What the gate says of so many simulated runs; `rerun`: an inconclusive one gets more sessions, by the rule."""
    generator = np.random.default_rng([SEED, round(slower * 1000), sessions, rerun])
    counts: Counter[str] = Counter()
    for _ in range(runs):
        before, after = arm(generator, sessions, 1.0), arm(generator, sessions, slower)
        comparison = compare(before, after)
        while rerun and comparison.verdict == "inconclusive" and len(before) < MOST:
            more = min(len(before), MOST - len(before))
            before += arm(generator, more, 1.0)
            after += arm(generator, more, slower)
            comparison = compare(before, after)
        counts[comparison.verdict] += 1
    return counts


def main(runs: int) -> None:
    print(
        f"seed {SEED}, {runs} runs, {ROUNDS} rounds a session; noise {SESSION_NOISE:.0%} a session, {ROUND_NOISE:.0%} a round"
    )
    print(
        f"{'sessions':>10s}{'re-run':>8s}{'slower':>8s}{'regression':>12s}{'inconclusive':>14s}{'pass':>7s}"
    )
    for sessions in (3, SESSIONS):
        for rerun in (False, True):
            for slower in (1.0, 1.02, 1.05, 0.95):
                counts = verdicts(slower, runs, sessions, rerun)
                cells = (counts[v] / runs for v in ("regression", "inconclusive", "pass"))
                regression, inconclusive, passed = cells
                print(
                    f"{sessions:10d}{'yes' if rerun else 'no':>8s}{slower - 1:+8.0%}"
                    f"{regression:12.1%}{inconclusive:14.1%}{passed:7.1%}"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
