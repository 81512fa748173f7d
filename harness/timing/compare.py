"""Two arms of results files, a session of one run each, held against one another: times, counters, and the ops behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.gates.keys import Key, keyed
from harness.gates.sessions import Comparison, compare, compare_exact
from harness.results.catalogue import COUNTERS
from harness.results.schema import Figure, ResultsFile

State = Literal["pass", "regression", "inconclusive", "missing baseline", "vanished"]
MOST_CAUSES = 3


@dataclass(frozen=True)
class Compared:
    """One figure in both arms. `best`: a time that is faster beyond doubt, to be offered as the new baseline."""

    key: Key
    state: State
    said: str
    best: bool = False


def compared(baseline: Sequence[ResultsFile], candidate: Sequence[ResultsFile]) -> Iterator[Compared]:
    """Every time and counter of the candidate, and those of the baseline that it lacks.

    A counter or a modelled time has no noise: of several sessions the first is taken, and any increase, of a counter any
    change, is a regression. Measured times are compared by session.
    """
    before, after = (_by_key(arm) for arm in (baseline, candidate))
    for key in before.keys() - after.keys():
        yield Compared(key, "vanished", "in the baseline only")
    for key, now in after.items():
        then = before.get(key)
        if then is None:
            yield Compared(key, "missing baseline", "in the candidate only; keep its file as a baseline")
        elif key.metric in COUNTERS:
            yield _counter(key, then[0], now[0])
        else:
            yield _time(key, then, now)


def status(comparisons: Sequence[Compared]) -> int:
    """0 pass, 1 regression or vanished, 2 where nothing could be said or not of all."""
    states = {one.state for one in comparisons}
    if states & {"regression", "vanished"}:
        return 1
    return 2 if not comparisons or states & {"inconclusive", "missing baseline"} else 0


def _by_key(arm: Sequence[ResultsFile]) -> dict[Key, list[Figure]]:
    """The times and counters of an arm, a figure for each session that has one."""
    by_key: dict[Key, list[Figure]] = {}
    for session in arm:
        for key, figure in keyed(session.records).items():
            if figure.value is not None and (figure.samples or key.metric in COUNTERS):
                by_key.setdefault(key, []).append(figure)
    return by_key


def _counter(key: Key, then: Figure, now: Figure) -> Compared:
    if then.value == now.value:
        return Compared(key, "pass", "equal")
    return Compared(key, "regression", f"{now.value:,.0f}, baseline {then.value:,.0f}")


def _time(key: Key, then: list[Figure], now: list[Figure]) -> Compared:
    clocks = {figure.clock for figure in (*then, *now)}
    if len(clocks) > 1:
        names = " and ".join(sorted(str(clock) for clock in clocks))
        return Compared(key, "inconclusive", f"timed by the {names} clocks, which cannot be compared")
    modelled = clocks == {"model"}
    if modelled:
        comparison = compare_exact(then[0].samples[0], now[0].samples[0])
    else:
        comparison = compare([f.samples for f in then], [f.samples for f in now])
    causes = ", ".join(_causes(then[0], now[0])) if modelled and comparison.ratio != 1 else ""
    return Compared(
        key,
        comparison.verdict,
        _said(comparison, modelled) + (f" ({causes})" if causes else ""),
        comparison.best,
    )


def _said(comparison: Comparison, modelled: bool) -> str:
    change = f"{comparison.ratio - 1:+.1%}"
    interval = (
        "modelled" if modelled else f"99% interval {comparison.low - 1:+.1%} to {comparison.high - 1:+.1%}"
    )
    new_best = "; a new best" if comparison.best else ""
    return f"{change}, {interval}{new_best}{f'; {comparison.note}' if comparison.note else ''}"


def _causes(then: Figure, now: Figure) -> list[str]:
    """The ops whose modelled time changed most, largest first."""
    names = {name for name in (*then.details, *now.details) if name.startswith("op ")}
    changes = {name: _number(now, name) - _number(then, name) for name in names}
    most = sorted(changes.items(), key=lambda change: -abs(change[1]))[:MOST_CAUSES]
    return [
        f"{name.removeprefix('op ')} {change * 1e6:+.0f} us" for name, change in most if abs(change) > 1e-9
    ]


def _number(figure: Figure, name: str) -> float:
    detail = figure.details.get(name, 0.0)
    return detail if isinstance(detail, float) else 0.0
