"""The baseline file: the figures of an accepted run, and why each change to it was accepted.

``{"schema": 1, "history": [...], "environment": {...}, "figures": [...]}``, a line a figure, so that a change of it can be
read in a diff. A figure holds what the gate compares; of a timed one the samples of each session.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.gates.keys import Key, check_same, keyed
from harness.results.schema import Figure, Origin, ResultsFile, read_as

_STRICT = ConfigDict(strict=True, extra="forbid")
_READ = ConfigDict(strict=True, extra="ignore")
# What the gate does not compare: a baseline without it changes only where a figure does.
_DROPPED: dict[str, Any] = {"note": "", "gate": None, "direction": None, "samples": ()}


class RefusedError(ValueError):
    """These results cannot become the baseline; the message is one line."""


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class Update:
    """One accepted change of a baseline."""

    reason: str
    date: str  # ISO 8601, UTC
    commit: str | None  # of the results
    changes: str  # "3 changed, 1 new, 0 gone of 212 figures"


@checked_dataclass(frozen=True, kw_only=True, config=_READ)
class Accepted(Figure):
    """A figure of an accepted run."""

    sessions: tuple[tuple[float, ...], ...] = ()  # of a timed one: the samples of each session


@checked_dataclass(frozen=True, config=_STRICT)
class Baseline:
    """A baseline file."""

    schema: Literal[1]
    history: tuple[Update, ...]  # the newest last
    environment: Origin
    figures: tuple[Accepted, ...]


@dataclass(frozen=True)
class Changes:
    """How many figures an update changes."""

    changed: int
    new: int
    gone: int
    of: int

    def __str__(self) -> str:
        return f"{self.changed} changed, {self.new} new, {self.gone} gone of {self.of} figures"


_BASELINE = TypeAdapter(Baseline)
_FIGURE = TypeAdapter(Accepted)


def read_baseline(path: Path) -> Baseline:
    """Raises UnreadableError."""
    return read_as(_BASELINE, path, "baseline")


def updated(old: Baseline | None, sessions: Sequence[ResultsFile], reason: str, date: str) -> Baseline:
    """A baseline that holds these runs of one thing, each a session; its history goes on from the old one's.

    Raises ForeignError for runs of another model, target or golden, RefusedError for a regression or without a reason.
    """
    if not reason.strip():
        raise RefusedError("a baseline needs a reason, such as --reason 'fused QKV: one rounding less'")
    origin = sessions[0].environment
    for session in sessions:
        check_same(session.environment, old.environment if old else origin)
        bad = [figure for figure in session.records if figure.verdict == "regression"]
        if bad:
            raise RefusedError(
                f"{len(bad)} figures of the results are regressions, the first {bad[0].metric} of {bad[0].test}:"
                " a baseline is what passed"
            )
    figures = {key: _accepted(figure) for key, figure in keyed(sessions[0].records).items()}
    for session in sessions:
        for key, figure in keyed(session.records).items():
            if figure.samples and key in figures:
                entry = figures[key]
                figures[key] = replace(entry, sessions=(*entry.sessions, figure.samples))
    before = {} if old is None else keyed(old.figures)
    changes = _changes(before, figures)
    update = Update(reason=reason, date=date, commit=origin.commit, changes=str(changes))
    history = (*(old.history if old else ()), update)
    return Baseline(1, history, origin, tuple(figures.values()))


def text(baseline: Baseline) -> str:
    """The file's content."""
    history = ",\n".join(f"  {json.dumps(asdict(update))}" for update in baseline.history)
    figures = ",\n".join(f"  {json.dumps(_plain(figure))}" for figure in baseline.figures)
    environment = json.dumps(asdict(baseline.environment))
    return (
        f'{{"schema": {baseline.schema},\n "history": [\n{history}\n ],\n'
        f' "environment": {environment},\n "figures": [\n{figures}\n ]}}\n'
    )


def _accepted(figure: Figure) -> Accepted:
    # Counted by name; what else is in details is shown only
    details = figure.details if figure.metric == "ops" else {}
    compared = {each.name: getattr(figure, each.name) for each in fields(Figure)}
    return Accepted(**compared | _DROPPED | {"details": details})


def _changes(before: dict[Key, Accepted], after: dict[Key, Accepted]) -> Changes:
    both = before.keys() & after.keys()
    changed = sum(not _equal(before[key].value, after[key].value) for key in both)
    return Changes(changed, len(after.keys() - both), len(before.keys() - both), len(after))


def _equal(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


def _plain(figure: Accepted) -> dict[str, Any]:
    """What differs from the defaults, as JSON can hold it."""
    fields: dict[str, Any] = _FIGURE.dump_python(figure, exclude_defaults=True)
    if figure.value is not None and not math.isfinite(figure.value):
        fields["value"] = str(figure.value)
    return fields
