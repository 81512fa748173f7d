"""The errors of this folder. Each carries one line: what is wrong, and the command or value that mends it."""

from __future__ import annotations

MEND = "run `tt-harness goldens make`"
MAKE = "run the test with --tt-update-goldens, or `tt-harness goldens make`"


class GoldenError(ValueError):
    """A golden, its reference model or its store cannot be used as asked."""


class CorpusError(GoldenError):
    """The text cannot be read, or is too short for the windows asked of it."""


class GoldenMissing(GoldenError):
    """The store holds no golden of this name."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(f"golden {name} is missing in {place}: {MAKE}")


class GoldenStale(GoldenError):
    """The store holds this golden only for other weights, another text or other settings."""

    def __init__(self, name: str, key: str, others: list[str]) -> None:
        keys = ", ".join(other[:12] for other in others)
        super().__init__(
            f"golden {name} is stale: key {key[:12]} is needed, the store has {keys} "
            f"(made from other weights, text or settings): {MAKE}"
        )


class GoldenCorrupt(GoldenError):
    """A stored golden cannot be trusted: unreadable manifest, truncated file, or a digest that differs."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"golden {name} is corrupt ({why}): {MEND}")
