"""Where one step of prefill attention works: what the configs ask for, and the block of scores it takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.spec.types import MathFidelity


@dataclass(frozen=True)
class Setting:
    """What of the configs changes the arithmetic; chunks in elements."""

    math: Math
    matmul_fidelity: MathFidelity | None  # of the products, where the streaming kernel has its own
    approx: bool  # math_approx_mode
    exp_approx: bool
    scale: float
    q_chunk: int
    k_chunk: int
    window: int = 0  # keys that a query sees at most; 0: all
    position: int = 0  # of the first query among the keys


@dataclass(frozen=True)
class Scores:
    """Where a step's scores lie: query rows from `first`, keys from `start`; and what hides keys, if anything."""

    first: int
    start: int
    span: int  # of all keys
    causal: bool
    mask: torch.Tensor | None  # [groups, heads, rows, keys] of the step
    position: int = 0  # of query row 0 among the keys
    begin: int = 0  # the first key that the rows' sums have
    end: int | None = None  # the tile of keys at which a window has the kernel stop

    @property
    def onto(self) -> bool:
        """Whether there are chunks before this one."""
        return self.start > self.begin
