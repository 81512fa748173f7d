"""What the gate reads of a results file: where a run was made, and each figure with the key it is known by.

The fields are those of `results.schema`. A gate also takes files of other versions: it passes over what it has no use for.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.results.schema import Figure, Origin

_READ = ConfigDict(strict=True, extra="ignore")


class UnreadableError(ValueError):
    """A results or baseline file is absent, truncated or of another kind; the message is one line that names it."""


class ForeignError(ValueError):
    """Two files are not of one model, device or golden; the message is one line."""


@dataclass(frozen=True)
class Key:
    """What makes two figures the same figure in two runs."""

    test: str  # pytest node id
    target: str
    mesh: str
    precision: str
    module: str
    layer: int | None
    phase: str | None
    batch: int
    seq_len: int
    metric: str
    nth: int = 0  # among the figures of one test that agree in all of these

    def __str__(self) -> str:
        """`accuracy attention layer 0 prefill, batch 1, seq 128, mesh 1x1: pcc`."""
        layer = None if self.layer is None else f"layer {self.layer}"
        what = " ".join(part for part in (self.precision, self.module, layer, self.phase) if part)
        sizes = f", batch {self.batch}, seq {self.seq_len}" if self.seq_len else ""
        return f"{what}{sizes}, mesh {self.mesh}: {self.metric}"


@checked_dataclass(frozen=True, config=_READ)
class ResultsFile:
    """A results file."""

    schema: Literal[1]
    environment: Origin
    records: tuple[Figure, ...]


Read = TypeVar("Read")
AnyFigure = TypeVar("AnyFigure", bound=Figure)
_RESULTS = TypeAdapter(ResultsFile)


def read_results(path: Path) -> ResultsFile:
    """Raises UnreadableError."""
    return read(path, _RESULTS, "results")


def read(path: Path, kind: TypeAdapter[Read], what: str) -> Read:
    """A JSON file of a kind. Raises UnreadableError, which calls the file `what`."""
    try:
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        raise UnreadableError(f"cannot read {what} {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UnreadableError(f"{path} is not a {what} file: {_fault(error)}") from error


def keyed(figures: Iterable[AnyFigure]) -> dict[Key, AnyFigure]:
    """The figures by key, in order. Those that agree in everything else are told apart by their place in their test."""
    seen: Counter[Key] = Counter()
    found: dict[Key, AnyFigure] = {}
    for f in figures:
        key = Key(
            f.test, f.target, f.mesh, f.precision, f.module, f.layer, f.phase, f.batch, f.seq_len, f.metric
        )
        found[replace(key, nth=seen[key])] = f
        seen[key] += 1
    return found


def check_same(run: Origin, other: Origin) -> None:
    """Raises ForeignError where both files say what they are of and differ in it. The commit may differ."""
    for name in ("model", "weights_digest", "target", "emulator_mode", "goldens"):
        ours, theirs = getattr(run, name), getattr(other, name)
        if name == "model":  # a folder may lie elsewhere
            ours, theirs = (given.rstrip("/").rpartition("/")[2] for given in (ours, theirs))
        if ours is not None and theirs is not None and ours != theirs:
            what = name.replace("_", " ")
            raise ForeignError(
                f"the results are of {what} {ours:.40}, the baseline is of {what} {theirs:.40}"
            )


def _fault(error: ValidationError) -> str:
    """The first fault, in a line."""
    fault: Any = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "json_invalid":
        return f"incomplete JSON, truncated? ({fault['ctx']['error']})"
    if fault["type"] == "missing":
        return f"it has no {where}"
    return f"{where} is {fault['input']!r:.60}: {fault['msg']}"
