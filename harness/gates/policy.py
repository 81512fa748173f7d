"""Gates and guidelines from policy.yaml: which rule holds for a measurement, and whether it passes.

The file has two parts. ``guidelines`` says what a good port reaches, ``gates`` what must not be missed. A third, ``metrics``, names
the metrics that it is about and which way each is better; without it they are those of the harness (`results.catalogue`).

Each rule is a bound and the selectors it holds for. Of the rules that match, the one with the most selectors wins, and two
different ones with equally many are an error.

A gate is of one of three kinds, by the keys it has:

    value           absolute: the figure itself must reach it
    alpha, effect   statistical: a change is a regression where a paired test finds it at alpha and it exceeds the effect that
                    matters; where the test could not have found that effect with `power` (0.8), the verdict is "inconclusive"
    relative        against a baseline's figure of the same measurement: by which share of it one may be worse

A run judges itself by the absolute or statistical gate that holds; `relative` ones are for whoever has a baseline.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from harness import project_folder
from harness.results.catalogue import DIRECTIONS, Direction
from harness.results.schema import REFERENCE_TARGET
from harness.targets import TARGETS

Kind = Literal["absolute", "relative", "statistical"]
Verdict = Literal["pass", "regression", "inconclusive"]
Part = Literal["guidelines", "gates", "relative"]
Facts = dict[str, str | int | None]  # the selectors' values of one measurement
POWER = 0.8  # of a statistical gate that names none
SELECTORS = ("module", "precision", "target", "phase", "layer", "mode")
TERMS = ("value", "relative", "alpha", "effect", "power")
SECTIONS = ("guidelines", "gates")
KNOWN_VALUES: dict[str, tuple[str, ...]] = {
    "phase": ("prefill", "decode"),
    "target": (*TARGETS, REFERENCE_TARGET),
    "mode": tuple(dict.fromkeys(mode for target in TARGETS.values() for mode in target.modes)),
}


class PolicyError(ValueError):
    """The policy file is wrong or cannot answer; the message is one line with the file and line number."""


@dataclass(frozen=True)
class Rule:
    """What holds for one measurement. What does not hold is None; sources name a file and line."""

    metric: str
    # The value of an absolute gate, the effect of a statistical one; None: a relative gate alone
    gate: float | None
    guideline: float | None
    direction: Direction
    source: str
    alpha: float | None = None  # of a statistical gate, with its power
    power: float | None = None
    relative: float | None = None  # share of the baseline's figure
    relative_source: str = ""


@dataclass(frozen=True)
class Entry:
    """One line of the file: a bound of one kind, and what it holds for."""

    metric: str
    kind: Kind
    bound: float  # the value, the share, or the effect
    selectors: tuple[tuple[str, tuple[str | int, ...]], ...]
    source: str
    alpha: float | None = None
    power: float | None = None

    def matches(self, metric: str, facts: Facts) -> bool:
        """Whether it holds for a measurement."""
        return metric == self.metric and all(facts[key] in values for key, values in self.selectors)

    @property
    def terms(self) -> str:
        """What it demands, as the file says it."""
        if self.kind == "statistical":
            return f"alpha {self.alpha:g}, effect {self.bound:g}, power {self.power:g}"
        return f"{'relative ' if self.kind == 'relative' else ''}{self.bound:g}"


@dataclass(frozen=True)
class Policy:
    """A loaded policy file."""

    path: str
    directions: dict[str, Direction]
    guidelines: tuple[Entry, ...]
    gates: tuple[Entry, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> "Policy":
        """Reads a policy file, by default the packaged one. Raises PolicyError, one line, for anything wrong in it."""
        name = str(path) if path else "policy.yaml"
        try:
            text = (path or project_folder("ci") / "policy.yaml").read_text(encoding="utf-8")
        except OSError as error:
            raise PolicyError(f"cannot read policy {name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise PolicyError(f"policy {name} is not UTF-8 text") from error
        return _parse(text, name)

    def resolve(
        self,
        *,
        metric: str,
        module: str | None = None,
        precision: str | None = None,
        target: str | None = None,
        phase: str | None = None,
        layer: int | None = None,
        mode: str | None = None,
    ) -> Rule:
        """The rule for one measurement. Raises PolicyError when no gate matches or two contradict each other."""
        facts: Facts = {
            "module": module,
            "precision": precision,
            "target": target,
            "phase": phase,
            "layer": layer,
            "mode": mode,
        }
        gate, relative = (_winner(self.matching(part, metric, facts)) for part in ("gates", "relative"))
        if gate is None and relative is None:
            facts_text = ", ".join(f"{k}={v}" for k, v in facts.items() if v is not None)
            raise PolicyError(
                f"{self.path}: no gate for metric={metric}{', ' + facts_text if facts_text else ''}"
            )
        guideline = _winner(self.matching("guidelines", metric, facts))
        return Rule(
            metric,
            gate.bound if gate else None,
            guideline.bound if guideline else None,
            self.directions[metric],
            gate.source if gate else "",
            gate.alpha if gate else None,
            gate.power if gate else None,
            relative.bound if relative else None,
            relative.source if relative else "",
        )

    def matching(self, part: Part, metric: str, facts: Facts) -> tuple[Entry, ...]:
        """The rules of one part that hold for a measurement, most selectors first; the first wins.

        "gates" are those a run judges itself by, "relative" those that need a baseline. Raises PolicyError for a metric that
        the file does not name.
        """
        if metric not in self.directions:
            raise PolicyError(
                f"{self.path}: no metric {metric!r}; known: {', '.join(sorted(self.directions))}"
            )
        rules = self.guidelines if part == "guidelines" else self.gates
        entries = [
            entry
            for entry in rules
            if entry.matches(metric, facts) and (entry.kind == "relative") == (part == "relative")
        ]
        return tuple(sorted(entries, key=lambda entry: -len(entry.selectors)))


def judge(value: float, rule: Rule, details: Mapping[str, float | str] | None = None) -> Verdict:
    """What a run says of a figure. NaN is a regression; a figure with a relative gate alone passes in a run.

    A statistical gate reads a paired test's figures in `details`: ``p_value`` (``q_value`` where the run's other tests are
    known) and ``detectable``, the change it finds with the gate's power. A regression is then a change beyond the effect
    that the test tells from chance at alpha; a test that does not, and could not have found the effect either, is
    "inconclusive". Without such figures the effect is an absolute bound.
    """
    if rule.gate is None:
        return "pass"
    good = meets(value, rule.gate, rule.direction)
    facts = details or {}
    p_value, detectable = facts.get("q_value", facts.get("p_value")), facts.get("detectable")
    if rule.alpha is None or not isinstance(p_value, float) or not isinstance(detectable, float):
        return "pass" if good else "regression"
    if math.isnan(value) or math.isnan(p_value) or (not good and p_value <= rule.alpha):
        return "regression"
    return "pass" if good and detectable <= rule.gate else "inconclusive"


def judge_relative(value: float, baseline: float, rule: Rule) -> Verdict:
    """The verdict of a relative gate: worse than the baseline's figure by at most `rule.relative` of it. NaN is a regression."""
    assert rule.relative is not None
    allowed = rule.relative * abs(baseline)
    bound = baseline - allowed if rule.direction == "higher" else baseline + allowed
    return "pass" if meets(value, bound, rule.direction) else "regression"


def meets(value: float, bound: float, direction: Direction) -> bool:
    """Whether a value reaches a gate or guideline; NaN reaches none."""
    return value >= bound if direction == "higher" else value <= bound


def _winner(matching: tuple[Entry, ...]) -> Entry | None:
    if not matching:
        return None
    best = matching[0]
    for other in matching[1:]:
        if len(other.selectors) == len(best.selectors) and other.terms != best.terms:
            raise PolicyError(
                f"{best.source} and {other.source} are equally specific for {best.metric} and differ:"
                f" {best.terms} and {other.terms}"
            )
    return best


def _parse(text: str, name: str) -> Policy:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise PolicyError(f"policy {name} is not valid YAML: {' '.join(str(error).split())}") from error
    sections: dict[str, yaml.Node] = {}
    for key, node in _pairs(root, name, "the file"):
        if key.value not in ("metrics", *SECTIONS):
            names = ", ".join(("metrics", *SECTIONS))
            raise PolicyError(f"{_at(name, key)}: unknown key {key.value!r}; expected {names}")
        sections[key.value] = node
    missing = [section for section in SECTIONS if section not in sections]
    if missing:
        raise PolicyError(f"policy {name} lacks: {', '.join(missing)}")
    directions = _directions(sections["metrics"], name) if "metrics" in sections else DIRECTIONS
    guidelines, gates = (_entries(sections[part], name, part, directions) for part in ("guidelines", "gates"))
    return Policy(name, directions, guidelines, gates)


def _directions(node: yaml.Node, name: str) -> dict[str, Direction]:
    directions: dict[str, Direction] = {}
    for key, item in _pairs(node, name, "metrics"):
        if item.value not in ("higher", "lower"):
            raise PolicyError(
                f"{_at(name, item)}: metric {key.value} is {item.value!r}; expected higher or lower"
            )
        directions[key.value] = "higher" if item.value == "higher" else "lower"
    return directions


def _entries(node: yaml.Node, name: str, part: str, directions: dict[str, Direction]) -> tuple[Entry, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise PolicyError(f"{_at(name, node)}: {part} must be a list of rules")
    entries = tuple(_entry(item, name, directions) for item in node.value)
    for entry in entries:
        if part == "guidelines" and entry.kind != "absolute":
            raise PolicyError(f"{entry.source}: a guideline is a value, not {entry.terms}")
    return entries


def _entry(node: yaml.Node, name: str, directions: dict[str, Direction]) -> Entry:
    metric = None
    terms: dict[str, float] = {}
    selectors: list[tuple[str, tuple[str | int, ...]]] = []
    for key, item in _pairs(node, name, "a rule"):
        if key.value == "metric":
            metric = item.value
            if metric not in directions:
                raise PolicyError(
                    f"{_at(name, item)}: unknown metric {metric!r}; known: {', '.join(directions)}"
                )
        elif key.value in TERMS:
            terms[key.value] = _number(key.value, item, name)
        elif key.value in SELECTORS:
            selectors.append((key.value, _selector(key.value, item, name)))
        else:
            names = ", ".join(("metric", *TERMS, *SELECTORS))
            raise PolicyError(f"{_at(name, key)}: unknown key {key.value!r}; expected one of {names}")
    if metric is None or not terms:
        raise PolicyError(f"{_at(name, node)}: a rule needs a metric and a value")
    kind, bound = _kind(terms, directions[metric], _at(name, node))
    alpha = terms.get("alpha")
    power = terms.get("power", POWER) if alpha is not None else None
    return Entry(metric, kind, bound, tuple(selectors), _at(name, node), alpha, power)


def _kind(terms: dict[str, float], direction: Direction, where: str) -> tuple[Kind, float]:
    """Which kind of gate a rule's terms make, and its bound."""
    present = set(terms)
    if present == {"value"}:
        return "absolute", terms["value"]
    if present == {"relative"}:
        if terms["relative"] < 0:
            raise PolicyError(f"{where}: relative is {terms['relative']:g}; expected a share, 0 or more")
        return "relative", terms["relative"]
    if present - {"power"} == {"alpha", "effect"}:
        for term in present - {"effect"}:
            if not 0 < terms[term] < 1:
                raise PolicyError(f"{where}: {term} is {terms[term]:g}; expected a share between 0 and 1")
        if direction != "lower" or terms["effect"] <= 0:
            raise PolicyError(
                f"{where}: a statistical gate needs a metric that is the size of a change (lower is better)"
                " and an effect above 0"
            )
        return "statistical", terms["effect"]
    raise PolicyError(
        f"{where}: a rule has a value, or relative, or alpha and effect; got {', '.join(sorted(present))}"
    )


def _selector(key: str, node: yaml.Node, name: str) -> tuple[str | int, ...]:
    """A scalar or a list of scalars; layers are numbers."""
    values: list[str | int] = []
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(item, yaml.ScalarNode):
            raise PolicyError(f"{_at(name, item)}: {key} must be a name or a list of names")
        if key == "layer":
            if not item.value.isdecimal():
                raise PolicyError(f"{_at(name, item)}: layer is {item.value!r}; expected a number from 0")
            values.append(int(item.value))
            continue
        if key in KNOWN_VALUES and item.value not in KNOWN_VALUES[key]:
            raise PolicyError(
                f"{_at(name, item)}: {key} is {item.value!r}; expected {', '.join(KNOWN_VALUES[key])}"
            )
        values.append(item.value)
    return tuple(values)


def _number(term: str, node: yaml.Node, name: str) -> float:
    try:
        value = float(node.value)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise PolicyError(f"{_at(name, node)}: {term} is {node.value!r}; expected a finite number")
    return value


def _pairs(node: yaml.Node | None, name: str, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        where = _at(name, node) if node else f"policy {name}"
        raise PolicyError(f"{where}: {what} must be a mapping of keys to values")
    keys: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in keys:
            raise PolicyError(f"{_at(name, key)}: key {key.value!r} is given twice or is not a name")
        keys.add(key.value)
    return list(node.value)


def _at(name: str, node: yaml.Node) -> str:
    return f"{name}:{node.start_mark.line + 1}"
