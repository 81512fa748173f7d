"""Joins the results files of one run that was split: over meshes, precisions, targets or machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.results.schema import Environment, Record, Results, ResultsError
from harness.results.sources import joined

# What all parts of one run share; None: the part does not say, or has no use for it.
SHARED = ("model", "weights_digest", "goldens", "emulator_mode", "commit")


def merged(parts: Mapping[str, Results]) -> Results:
    """The parts, by name, as one. A record that several parts hold alike, such as a floor's, is kept once.

    Raises ResultsError, one line, for parts of different commits, models, goldens or emulator modes, and where two parts
    have different figures of one test under the same target, mesh and precision.
    """
    environments = {name: part.environment for name, part in parts.items()}
    every = list(environments.values())
    for field in SHARED:
        _refuse_mixed(environments, field)
    environment = replace(
        every[0],
        target=_listed(e.target for e in every),
        mesh=_listed(e.mesh for e in every),
        python=_listed(e.python for e in every),
        platform=_listed(e.platform for e in every),
        cpu_model=_listed(e.cpu_model for e in every),
        cpu_path=_listed(e.cpu_path for e in every) or None,
        versions={name: _listed(e.versions.get(name) for e in every) or None for name in every[0].versions},
        weights_digest=next((e.weights_digest for e in every if e.weights_digest), None),
        goldens=next((e.goldens for e in every if e.goldens), None),
        emulator_mode=next((e.emulator_mode for e in every if e.emulator_mode), None),
    )
    sources = [part.sources for part in parts.values() if part.sources is not None]
    return Results(environment, tuple(_records(parts)), joined(sources) if sources else None)


def _refuse_mixed(environments: Mapping[str, Environment], field: str) -> None:
    named_values = [
        (name, value) for name, e in environments.items() if (value := getattr(e, field)) is not None
    ]
    for name, value in named_values:
        first, expected = named_values[0]
        if value != expected:
            what = field.replace("_", " ")
            raise ResultsError(
                f"{first} is of {what} {expected:.40}, {name} of {value:.40}: they are not of one run"
            )


def _listed(values: Iterable[str | None]) -> str:
    """What the parts may differ in: each value once."""
    return ",".join(dict.fromkeys(value for value in values if value))


def _records(parts: Mapping[str, Results]) -> list[Record]:
    """The records of all parts: those of a test, target, mesh and precision come from one part, or are alike in all."""
    by_key: dict[tuple[str, str, str, str], tuple[str, list[Record]]] = {}
    for name, part in parts.items():
        mine: dict[tuple[str, str, str, str], list[Record]] = {}
        for record in part.records:
            mine.setdefault((record.test, record.target, record.mesh, record.precision), []).append(record)
        for key, records in mine.items():
            other, others = by_key.setdefault(key, (name, records))
            if repr(others) != repr(records):  # NaN is like NaN here
                raise ResultsError(
                    f"{other} and {name} both have {key[0]} on mesh {key[2]}, and differ in it"
                )
    return [record for _, records in by_key.values() for record in records]
