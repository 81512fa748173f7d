"""The key by which a figure is known from run to run, and whether two files are of one thing."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.results.schema import Figure, Origin

AnyFigure = TypeVar("AnyFigure", bound=Figure)


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


def keyed(figures: Iterable[AnyFigure]) -> dict[Key, AnyFigure]:
    """The figures by key, in order. Those that agree in everything else are told apart by their place in their test."""
    counts: Counter[Key] = Counter()
    by_key: dict[Key, AnyFigure] = {}
    for f in figures:
        key = Key(
            f.test, f.target, f.mesh, f.precision, f.module, f.layer, f.phase, f.batch, f.seq_len, f.metric
        )
        by_key[replace(key, nth=counts[key])] = f
        counts[key] += 1
    return by_key


def check_same(run: Origin, other: Origin) -> None:
    """Raises ForeignError where both files say what they are of and differ in it. The commit may differ."""
    for name in ("model", "weights_digest", "target", "emulator_mode", "goldens"):
        ours, theirs = getattr(run, name), getattr(other, name)
        if name == "model":  # a folder may lie elsewhere
            ours, theirs = (path.rstrip("/").rpartition("/")[2] for path in (ours, theirs))
        if ours is not None and theirs is not None and ours != theirs:
            what = name.replace("_", " ")
            raise ForeignError(
                f"the results are of {what} {ours:.40}, the baseline is of {what} {theirs:.40}"
            )
