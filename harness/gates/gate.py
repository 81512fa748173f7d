"""The gate: results held against the policy and a baseline. It says what got worse, what vanished, and what is new.

What a figure is held to follows from the policy alone, never from the run's own verdict, so that a policy can be tried
on results at hand. A figure that the policy does not name is a counter, and must equal the baseline's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.gates.baseline import Accepted, Baseline
from harness.gates.keys import Key, check_same, keyed
from harness.gates.policy import Policy, Rule, judge, judge_relative
from harness.gates.sessions import compare, compare_exact
from harness.results.schema import REFERENCE_TARGET, Figure, ResultsFile

Kind = Literal["regression", "vanished", "unjudged", "changed", "new", "not compared"]
Place = tuple[str, str, str]  # a test, the target and the mesh it ran on
FAILURES: tuple[Kind, ...] = ("regression", "vanished")
SKIPPED = "skipped:"  # how the note of a test that did not run starts
PASS, REGRESSION, CANNOT_JUDGE = 0, 1, 2
MOST_SHOWN = 20  # lines of what does not fail
HEADINGS: dict[Kind, str] = {
    "regression": "Regressions",
    "vanished": "Vanished since the baseline",
    "unjudged": "Cannot be judged",
    "new": "New, in no baseline",
    "changed": "Changed, within their gates",
    "not compared": "Not compared",
}


@dataclass(frozen=True)
class Finding:
    """One thing that the gate has to say."""

    kind: Kind
    test: str
    what: str  # the figure's key, or the test
    said: str


@dataclass(frozen=True)
class Judgement:
    """What became of a run. `checks`: figures held against a gate or a baseline, and tests without figures."""

    findings: tuple[Finding, ...]
    checks: int

    def of(self, *kinds: Kind) -> list[Finding]:
        """The findings of these kinds."""
        return [finding for finding in self.findings if finding.kind in kinds]

    @property
    def status(self) -> int:
        """0 pass, 1 regression, 2 cannot judge."""
        if self.of(*FAILURES):
            return REGRESSION
        return CANNOT_JUDGE if self.of("unjudged") or not self.checks else PASS


def judge_run(sessions: Sequence[ResultsFile], baseline: Baseline, policy: Policy) -> Judgement:
    """Holds a run, one results file or several sessions of it, against baseline and policy.

    Raises ForeignError for files of different models, targets, modes or goldens, PolicyError for a policy without a gate.
    """
    for session in sessions:
        check_same(session.environment, baseline.environment)
    before = keyed(baseline.figures)
    runs = [keyed(session.records) for session in sessions]
    mode = sessions[0].environment.emulator_mode
    findings: list[Finding] = []
    checks = 0
    for now in runs:
        findings += _vanished(before, now)
        for key, figure in now.items():
            if figure.target == REFERENCE_TARGET or figure.clock is not None:
                continue
            checks += _is_check(figure, policy)
            findings += _judged(key, figure, before.get(key), policy, mode)
    timed = {key: figure for now in runs for key, figure in now.items() if figure.samples}
    checks += len(timed)
    for key, figure in timed.items():
        samples = [now[key].samples for now in runs if key in now]
        findings += _timed(key, figure, samples, before.get(key))
    return Judgement(tuple(dict.fromkeys(findings)), checks)


def lines(judgement: Judgement, baseline: Baseline) -> Iterator[str]:
    """The judgement in words, the verdict first; of what does not fail only the first few of each kind."""
    newest = baseline.history[-1]
    against = f"{judgement.checks} checks against the policy and the baseline of {newest.date[:10]} ({newest.reason})"
    counts = [f"{len(judgement.of(kind))} {kind}" for kind in HEADINGS if judgement.of(kind)]
    verdict = ("pass", "regression", "cannot judge")[judgement.status]
    yield f"GATE: {verdict}; {', '.join(counts) or 'nothing changed'}; {against}"
    for kind, heading in HEADINGS.items():
        findings = judgement.of(kind)
        if findings:
            yield f"{heading}:"
        head = findings if kind in (*FAILURES, "unjudged") else findings[:MOST_SHOWN]
        for finding in head:
            test = "" if finding.what == finding.test else f" [{finding.test}]"
            yield f"  {finding.what}: {finding.said}{test}"
        if len(findings) > len(head):
            yield f"  and {len(findings) - len(head)} more"


def _vanished(before: dict[Key, Accepted], now: dict[Key, Figure]) -> Iterator[Finding]:
    """Tests that are gone, and figures that a test no longer gives without having failed."""
    reasons: dict[Place, Figure] = {}  # of each test, what says why figures are missing
    for key, figure in now.items():
        if figure.value is None and figure.verdict != "pass":
            reasons[_place(key)] = figure
    ran = {_place(key) for key in now}
    gone: dict[Place, list[Key]] = {}
    for key in before.keys() - now.keys():
        gone.setdefault(_place(key), []).append(key)
    for place, keys in sorted(gone.items()):
        test, target, mesh = place
        figures = sorted((key for key in keys if before[key].value is not None), key=str)
        if place not in ran:
            yield Finding("vanished", test, test, f"this test of the baseline did not run on {target} {mesh}")
        elif place not in reasons:
            for key in figures:
                yield Finding("vanished", test, str(key), "the test ran and no longer gives this figure")
        elif reasons[place].verdict == "not_compared" and figures:
            reason = reasons[place].note or "no reason given"
            yield Finding("vanished", test, test, f"no longer compared on {target} {mesh}: {reason}")


def _place(key: Key) -> Place:
    return key.test, key.target, key.mesh


def _is_check(figure: Figure, policy: Policy) -> bool:
    """Whether something is held against it: a gate, the baseline, or, of a test without figures, that it ran at all."""
    if figure.value is None:
        return not (figure.verdict == "not_compared" and figure.note.startswith(SKIPPED))
    return figure.metric not in policy.directions or figure.direction is not None


def _judged(
    key: Key, figure: Figure, before: Figure | None, policy: Policy, mode: str | None
) -> Iterator[Finding]:
    """What there is to say of one figure that is not a time."""
    if figure.value is None:
        yield from _without_value(key, figure)
    elif figure.metric not in policy.directions:
        yield from _counted(key, figure, before)
    elif figure.direction is not None:  # else it is shown only
        rule = policy.resolve(
            metric=key.metric,
            module=key.module,
            precision=key.precision,
            target=key.target,
            phase=key.phase,
            layer=key.layer,
            mode=mode,
        )
        yield from _gated(key, figure, figure.value, before, rule)


def _gated(key: Key, figure: Figure, value: float, before: Figure | None, rule: Rule) -> Iterator[Finding]:
    """Held against the gate that needs no baseline, then against the one that does, then only compared."""
    sign = "at least" if rule.direction == "higher" else "at most"
    old = None if before is None else before.value
    gate = "" if rule.gate is None else f" (gate: {sign} {rule.gate:g}, {rule.source})"
    change = "" if old is None else f", baseline {old:.6g}"
    verdict = judge(value, rule, figure.details)
    if verdict != "pass":
        kind: Kind = "regression" if verdict == "regression" else "unjudged"
        yield Finding(kind, key.test, str(key), f"{value:.6g}{gate}{change} {figure.note}".rstrip())
    elif old is None:
        yield Finding("new", key.test, str(key), f"{value:.6g}{gate}")
    elif rule.relative is not None and judge_relative(value, old, rule) != "pass":
        text = f"{value:.6g}{change} (may be worse by {rule.relative:g} of it, {rule.relative_source})"
        yield Finding("regression", key.test, str(key), text)
    elif f"{value:.6g}" != f"{old:.6g}":
        yield Finding("changed", key.test, str(key), f"{value:.6g}{change}")


def _timed(
    key: Key, figure: Figure, sessions: Sequence[tuple[float, ...]], before: Accepted | None
) -> Iterator[Finding]:
    """A time against the baseline's, by its clock: a modelled one has no noise, of the others whole sessions are compared."""
    if before is None or before.value is None or figure.value is None:
        yield Finding("new", key.test, str(key), f"{figure.value} s by the {figure.clock} clock")
        return
    if figure.clock != "model" and not before.sessions:
        yield Finding("unjudged", key.test, str(key), "the baseline has no samples of it")
        return
    if figure.clock == "model":
        comparison = compare_exact(before.value, figure.value)
        interval = ""
    else:
        comparison = compare(before.sessions, sessions)
        interval = f" [{comparison.low:.3f}, {comparison.high:.3f}]"
    text = f"{comparison.ratio:.3f}{interval} of the baseline's {before.value:.3g} s, {figure.clock} clock {comparison.note}"
    if comparison.verdict != "pass":
        kind: Kind = "regression" if comparison.verdict == "regression" else "unjudged"
        yield Finding(kind, key.test, str(key), text.rstrip())
    elif comparison.best:
        yield Finding("changed", key.test, str(key), text.rstrip())


def _without_value(key: Key, figure: Figure) -> Iterator[Finding]:
    """A test that failed, could not be judged, or compared nothing."""
    if figure.verdict == "regression":
        yield Finding("regression", key.test, key.test, figure.note or "failed")
    elif figure.verdict == "not_compared":
        yield Finding("not compared", key.test, key.test, figure.note or "no reason given")
    elif figure.verdict != "pass":
        yield Finding("unjudged", key.test, key.test, f"{figure.verdict}: {figure.note}")


def _counted(key: Key, figure: Figure, before: Figure | None) -> Iterator[Finding]:
    """A counter equals the baseline's, and of ops each by its name."""
    if figure.gate is None and before is None and figure.verdict == "pass":
        return  # shown for comparison
    if before is None or before.value is None:
        # By the counters' own baseline
        kind: Kind = "regression" if figure.verdict == "regression" else "new"
        yield Finding(kind, key.test, str(key), f"{figure.value:,.0f}, new here {figure.note}".rstrip())
        return
    names = sorted(before.details.keys() | figure.details.keys()) if key.metric == "ops" else []
    counts = ((name, _number(figure, name) - _number(before, name)) for name in names)
    apart = ", ".join(f"{change:+.0f} {name}" for name, change in counts if change)
    if figure.value != before.value or apart:
        text = f"{figure.value:,.0f}, baseline {before.value:,.0f}{f' ({apart})' if apart else ''}"
        yield Finding("regression", key.test, str(key), text)


def _number(figure: Figure, name: str) -> float:
    detail = figure.details.get(name, 0.0)
    return detail if isinstance(detail, float) else 0.0
