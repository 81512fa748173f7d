"""Gates and guidelines from policy.yaml: which rule holds for a measurement, and whether it passes.

The file has three parts. ``metrics`` names every known metric and which direction is better. ``guidelines`` says what
a good port reaches, ``gates`` what must not be missed. Each rule is a value and the selectors it holds for; of the
rules that match, the one with the most selectors wins, and two different ones with equally many are an error.
"""

import importlib.resources
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

Direction = Literal["higher", "lower"]
SELECTORS = ("module", "precision", "target", "phase", "layer", "mode")
SECTIONS = ("metrics", "guidelines", "gates")
KNOWN_VALUES: dict[str, tuple[str, ...]] = {
    "phase": ("prefill", "decode"),
    "target": ("emulator", "dryrun", "ttsim", "silicon", "torch"),
    "mode": ("fast", "device", "exact"),  # of the emulator
}


class PolicyError(ValueError):
    """The policy file is wrong or cannot answer; the message is one line with the file and line number."""


@dataclass(frozen=True)
class Rule:
    """What holds for one measurement. A missing guideline is None; source names the gate's file and line."""

    metric: str
    gate: float
    guideline: float | None
    direction: Direction
    source: str


@dataclass(frozen=True)
class _Entry:
    metric: str
    value: float
    selectors: tuple[tuple[str, tuple[str | int, ...]], ...]
    source: str

    def matches(self, metric: str, facts: dict[str, str | int | None]) -> bool:
        return metric == self.metric and all(facts[key] in wanted for key, wanted in self.selectors)


@dataclass(frozen=True)
class Policy:
    """A loaded policy file."""

    path: str
    directions: dict[str, Direction]
    guidelines: tuple[_Entry, ...]
    gates: tuple[_Entry, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> "Policy":
        """Reads a policy file, by default the packaged one. Raises PolicyError, one line, for anything wrong in it."""
        name = str(path) if path else "policy.yaml"
        try:
            text = (path or importlib.resources.files("ci") / "policy.yaml").read_text(encoding="utf-8")
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
        if metric not in self.directions:
            raise PolicyError(
                f"{self.path}: no metric {metric!r}; known: {', '.join(sorted(self.directions))}"
            )
        facts: dict[str, str | int | None] = {
            "module": module,
            "precision": precision,
            "target": target,
            "phase": phase,
            "layer": layer,
            "mode": mode,
        }
        gate = _most_specific(self.gates, metric, facts)
        if gate is None:
            given = ", ".join(f"{k}={v}" for k, v in facts.items() if v is not None)
            raise PolicyError(f"{self.path}: no gate for metric={metric}{', ' + given if given else ''}")
        guideline = _most_specific(self.guidelines, metric, facts)
        return Rule(
            metric, gate.value, guideline.value if guideline else None, self.directions[metric], gate.source
        )


def judge(value: float, rule: Rule) -> Literal["pass", "regression"]:
    """ "pass" when the value is at or on the good side of the gate; NaN is a regression."""
    return "pass" if meets(value, rule.gate, rule.direction) else "regression"


def meets(value: float, bound: float, direction: Direction) -> bool:
    """Whether a value reaches a gate or guideline; NaN reaches none."""
    return value >= bound if direction == "higher" else value <= bound


def _most_specific(
    entries: tuple[_Entry, ...], metric: str, facts: dict[str, str | int | None]
) -> _Entry | None:
    matching = [entry for entry in entries if entry.matches(metric, facts)]
    if not matching:
        return None
    most = max(len(entry.selectors) for entry in matching)
    best = [entry for entry in matching if len(entry.selectors) == most]
    for other in best[1:]:
        if other.value != best[0].value:
            raise PolicyError(
                f"{best[0].source} and {other.source} are equally specific for {metric} and differ:"
                f" {best[0].value:g} and {other.value:g}"
            )
    return best[0]


def _parse(text: str, name: str) -> Policy:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise PolicyError(f"policy {name} is not valid YAML: {' '.join(str(error).split())}") from error
    sections: dict[str, yaml.Node] = {}
    for key, node in _pairs(root, name, "the file"):
        if key.value not in SECTIONS:
            raise PolicyError(f"{_at(name, key)}: unknown key {key.value!r}; expected {', '.join(SECTIONS)}")
        sections[key.value] = node
    missing = [section for section in SECTIONS if section not in sections]
    if missing:
        raise PolicyError(f"policy {name} lacks: {', '.join(missing)}")
    directions: dict[str, Direction] = {}
    for key, node in _pairs(sections["metrics"], name, "metrics"):
        if node.value not in ("higher", "lower"):
            raise PolicyError(
                f"{_at(name, node)}: metric {key.value} is {node.value!r}; expected higher or lower"
            )
        directions[key.value] = "higher" if node.value == "higher" else "lower"
    guidelines, gates = (_entries(sections[part], name, part, directions) for part in ("guidelines", "gates"))
    return Policy(name, directions, guidelines, gates)


def _entries(node: yaml.Node, name: str, part: str, directions: dict[str, Direction]) -> tuple[_Entry, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise PolicyError(f"{_at(name, node)}: {part} must be a list of rules")
    return tuple(_entry(item, name, directions) for item in node.value)


def _entry(node: yaml.Node, name: str, directions: dict[str, Direction]) -> _Entry:
    metric, value = None, None
    selectors: list[tuple[str, tuple[str | int, ...]]] = []
    for key, item in _pairs(node, name, "a rule"):
        if key.value == "metric":
            metric = item.value
            if metric not in directions:
                raise PolicyError(
                    f"{_at(name, item)}: unknown metric {metric!r}; known: {', '.join(directions)}"
                )
        elif key.value == "value":
            value = _number(item, name)
        elif key.value in SELECTORS:
            selectors.append((key.value, _selector(key.value, item, name)))
        else:
            known = ", ".join(("metric", "value", *SELECTORS))
            raise PolicyError(f"{_at(name, key)}: unknown key {key.value!r}; expected one of {known}")
    if metric is None or value is None:
        raise PolicyError(f"{_at(name, node)}: a rule needs a metric and a value")
    return _Entry(metric, value, tuple(selectors), _at(name, node))


def _selector(key: str, node: yaml.Node, name: str) -> tuple[str | int, ...]:
    """A scalar or a list of scalars; layers are numbers."""
    wanted: list[str | int] = []
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(item, yaml.ScalarNode):
            raise PolicyError(f"{_at(name, item)}: {key} must be a name or a list of names")
        if key == "layer":
            if not item.value.isdecimal():
                raise PolicyError(f"{_at(name, item)}: layer is {item.value!r}; expected a number from 0")
            wanted.append(int(item.value))
            continue
        if key in KNOWN_VALUES and item.value not in KNOWN_VALUES[key]:
            raise PolicyError(
                f"{_at(name, item)}: {key} is {item.value!r}; expected {', '.join(KNOWN_VALUES[key])}"
            )
        wanted.append(item.value)
    return tuple(wanted)


def _number(node: yaml.Node, name: str) -> float:
    try:
        value = float(node.value)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise PolicyError(f"{_at(name, node)}: value is {node.value!r}; expected a finite number")
    return value


def _pairs(node: yaml.Node | None, name: str, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        where = _at(name, node) if node else f"policy {name}"
        raise PolicyError(f"{where}: {what} must be a mapping of keys to values")
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in seen:
            raise PolicyError(f"{_at(name, key)}: key {key.value!r} is given twice or is not a name")
        seen.add(key.value)
    return list(node.value)


def _at(name: str, node: yaml.Node) -> str:
    return f"{name}:{node.start_mark.line + 1}"
