"""How true a run is: where the values of each op come from, what they cost, and what could not be had and why."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

UNSEEN = "ttnn.Tensor"  # stands for values that no op seen here made


class Source(enum.IntEnum):
    """Where values come from, the weakest first: what is made of several is as true as the weakest of them."""

    NONE = 0  # nothing is known: NaN, or zero in integers
    GOLDEN = 1  # a golden in fp32, rounded once into the result's format: not a Wormhole's bits
    EXACT = 2  # the emulator's op, or a transfer

    @property
    def word(self) -> str:
        """As records and tables have it."""
        return self.name.lower()


@dataclass
class Count:
    """Calls of an op with values of one source: how many, and the seconds in ttnn and in computing values."""

    calls: int = 0
    in_ttnn: float = 0.0
    in_values: float = 0.0


@dataclass
class Coverage:
    """What happened since the beginning, or since it was last taken.

    `reasons`: why an op did not get better values, the first reason of each (op, source). `findings`: where the emulator's
    result has another spec than the real ttnn's, or was refused and the real one not, as "<op>: <what>". `conflicts`: of the
    former by op, what differed first and in how many calls.
    """

    counts: dict[tuple[str, Source], Count] = field(default_factory=dict)
    reasons: dict[tuple[str, Source], str] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    conflicts: dict[str, tuple[str, int]] = field(default_factory=dict)
    weakest_read: Source | None = None  # of what was read back to the host

    def count(self, op: str, source: Source, in_ttnn: float, in_values: float) -> None:
        """A call of an op is over."""
        counted = self.counts.get((op, source))
        if counted is None:
            counted = self.counts[op, source] = Count()
        counted.calls += 1
        counted.in_ttnn += in_ttnn
        counted.in_values += in_values

    def explain(self, op: str, source: Source, reason: str) -> None:
        """Why an op has no better values than of this source."""
        self.reasons.setdefault((op, source), " ".join(reason.split())[:300])

    def find(self, op: str, what: str) -> None:
        """The emulator does not do as the real ttnn does."""
        line = f"{op}: {' '.join(what.split())[:300]}"
        self.findings[line] = self.findings.get(line, 0) + 1

    def conflict(self, op: str, what: str) -> None:
        """The emulator's result has another spec than the real ttnn's."""
        self.find(op, what)
        first, calls = self.conflicts.get(op, (what, 0))
        self.conflicts[op] = first, calls + 1

    def read(self, source: Source) -> None:
        """Values went to the host, where a test may look at them."""
        if self.weakest_read is None or source < self.weakest_read:
            self.weakest_read = source


def weakest(sources: Iterable[Source]) -> Source:
    """The weakest of several; EXACT of none."""
    return min(sources, default=Source.EXACT)
