"""Medians of timed figures over time, in a folder that any CI can keep, and the steps in them.

A run leaves one file of JSON lines, so that runs side by side never write to the same one. A step is where the level changes
for good: found by halving the series where that explains most (binary segmentation), as long as the two sides differ by more
than the series' own scatter does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from harness.gates.keys import keyed
from harness.results.schema import ResultsError, ResultsFile

EFFECT = 0.02  # a change of level of less than this is none
SCATTERS = 4.0  # how many standard errors two levels must be apart
FEWEST = 3  # points on each side of a step in a series that scatters


@dataclass(frozen=True)
class Point:
    """One figure of one run. `run`: what the run is of, such as a date and a commit; runs are in the order of their names."""

    run: str
    figure: str  # key and clock, in words
    seconds: float


@dataclass(frozen=True)
class Step:
    """The level changed with the run `index`. Above 1 is slower."""

    index: int
    ratio: float


def add(store: Path, run: str, sessions: Iterable[ResultsFile]) -> Path:
    """Writes a run's file and returns its path. Raises ResultsError where it exists or cannot be written."""
    samples: dict[str, list[float]] = {}
    for session in sessions:
        for key, figure in keyed(session.records).items():
            if figure.samples:
                name = f"{key} [{key.test.rpartition('::')[2]}], {figure.clock} clock"
                samples.setdefault(name, []).extend(figure.samples)
    lines = [json.dumps(asdict(Point(run, name, median(each)))) for name, each in samples.items()]
    path = store / f"{run}.jsonl"
    temporary = store / f".{run}.{os.getpid()}.tmp"
    try:
        store.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.link(temporary, path)  # fails where it exists
    except OSError as error:
        raise ResultsError(f"cannot write history {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(store: Path) -> dict[str, list[Point]]:
    """The points of each figure, oldest first. Raises ResultsError for a folder or file that is none of a history."""
    if not store.is_dir():
        raise ResultsError(f"history {store}: no such folder")
    series: dict[str, list[Point]] = {}
    for path in sorted(store.glob("*.jsonl")):
        try:
            points = [Point(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError, TypeError) as error:
            raise ResultsError(f"{path} is not a history file: {error}") from error
        for point in points:
            series.setdefault(point.figure, []).append(point)
    return series


def steps(seconds: Sequence[float]) -> list[Step]:
    """Where the level changes, in order."""
    if len(seconds) < 2:
        return []
    logs = np.log(np.asarray(seconds, dtype=float))
    changes = sorted(abs(b - a) for a, b in pairwise(logs))
    # A step is one difference among many: the median one shows the scatter alone.
    scatter = median(changes) / 0.6745 / 2**0.5
    cuts = sorted(_cuts(logs, 0, scatter))
    edges = [0, *cuts, len(logs)]
    levels = [float(np.median(logs[a:b])) for a, b in pairwise(edges)]
    return [
        Step(cut, float(np.exp(after - before)))
        for cut, (before, after) in zip(cuts, pairwise(levels), strict=True)
    ]


def _cuts(logs: npt.NDArray[np.float64], offset: int, scatter: float) -> list[int]:
    fewest = FEWEST if scatter > 0 else 1
    places = range(fewest, len(logs) - fewest + 1)
    if not places:
        return []
    cut = min(places, key=lambda place: _spread(logs[:place]) + _spread(logs[place:]))
    apart = abs(float(np.median(logs[cut:]) - np.median(logs[:cut])))
    error = scatter * (1 / cut + 1 / (len(logs) - cut)) ** 0.5
    if apart <= max(np.log1p(EFFECT) if scatter > 0 else 1e-9, SCATTERS * error):
        return []
    return [
        *_cuts(logs[:cut], offset, scatter),
        offset + cut,
        *_cuts(logs[cut:], offset + cut, scatter),
    ]


def _spread(logs: npt.NDArray[np.float64]) -> float:
    return float(np.abs(logs - np.median(logs)).sum())
