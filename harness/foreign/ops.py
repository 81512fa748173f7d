"""Every op of code that is not this project's, on target shadow: in the order they ran, each against its golden in fp32.

An op's `local` error is what it made of its own inputs, its `chain` error that against the same ops carried along in fp32 since
their values came to the device. Values are told by the buffer they lie in, so that views and writes in place are followed.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.bisect.errors import Error, worst
from harness.emulator.runtime.tensor import Tensor, replaced
from harness.targets import shadow
from harness.ttnn_calls.call_sites import callers

if TYPE_CHECKING:
    from harness.targets.shadow.calls import Call, Calls

Shards = list[torch.Tensor]  # one a device


@dataclass
class OpStep:
    """An op that ran. `file`, `line`: of the code that called it. `source`: of its values ("exact", "golden" or "none").

    The errors are None where it has no golden; `missing` then says why. `given` and `made` are fp32 values of the chain: of the
    tensors it read, and of what it gave.
    """

    index: int
    op: str
    file: str
    line: int
    source: str
    local: Error | None
    chain: Error | None
    missing: str
    given: list[torch.Tensor] = field(repr=False)
    made: list[torch.Tensor] = field(repr=False)

    @property
    def site(self) -> str:
        """`<file>:<line>: <what stands there>`."""
        return f"{self.file}:{self.line}: {linecache.getline(self.file, self.line).strip()}"


class Watched:
    """The ops that ran, in order."""

    def __init__(self, ttnn: Any) -> None:
        self.steps: list[OpStep] = []
        self._calls: Calls | None = None
        self._ttnn = ttnn
        self._chain: dict[int, Shards] = {}  # by a buffer's id: what it should hold, in fp32
        self._before: tuple[list[torch.Tensor], list[Shards], list[Shards], str] = ([], [], [], "")

    @property
    def missing(self) -> dict[str, str]:
        """Ops that were not compared, and why, the first reason of each."""
        reasons: dict[str, str] = {}
        for step in self.steps:
            if step.missing:
                reasons.setdefault(step.op, step.missing)
        return reasons

    def lines(self) -> list[str]:
        """A line an op, for people."""
        return [
            f"{step.index:4} {step.op:44} local {_shown(step.local)} chain {_shown(step.chain)} {step.source:6} {step.site}"
            + (f"  not compared: {step.missing}" if step.missing else "")
            for step in self.steps
        ]

    # the listener's part: nothing here may raise into the code that is watched

    def before(self, call: Call) -> None:
        """Computes the goldens: the op may free or overwrite what it was given."""
        local: list[Shards] = []
        chain: list[Shards] = []
        values: list[torch.Tensor] = []
        missing = ""
        try:
            carried = {key: self._carried(tensor) for key, tensor in self._keyed(call)}
            values = [shard for tensor in carried.values() for shard in tensor.shards[:1]]
            local = self._golden(call, call.stands_for)
            chain = self._golden(call, carried)
        except Exception as error:
            missing = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self._before = values, local, chain, missing

    def after(self, call: Call, written: list[Any], source: shadow.Source) -> None:
        """Compares what the op made with them."""
        inputs, local, chain, missing = self._before
        own: Error | None = None
        drift: Error | None = None
        if not missing and len(local) != len(written):
            missing = f"its golden gives {len(local)} tensors, ttnn {len(written)}"
        if not missing and source is shadow.Source.NONE:
            missing = "its values are unknown"
        uids = [real.buffer_unique_id() for real in written]
        if missing:
            for uid in uids:
                self._chain.pop(uid, None)
        else:
            outputs = [self._held(real) for real in written]
            for golden in (local, chain):
                golden[:] = [_shaped(a, b) for a, b in zip(golden, outputs, strict=True)]
            own, drift = worst(outputs, local), worst(outputs, chain)
            self._chain.update(zip(uids, chain, strict=True))
        file, line = _site()
        values = [shards[0] for shards in chain] if not missing else []
        self.steps.append(
            OpStep(len(self.steps), call.name, file, line, source.word, own, drift, missing, inputs, values)
        )

    def _keyed(self, call: Call) -> Iterator[tuple[int, tuple[int, Tensor]]]:
        for real in call.inputs:
            yield id(real), (real.buffer_unique_id(), call.stands_for[id(real)])

    def _carried(self, keyed: tuple[int, Tensor]) -> Tensor:
        """A tensor with the chain's values in place of its own, if there are any."""
        uid, own = keyed
        carried = self._chain.get(uid)
        if carried is None or len(carried) != len(own.shards) or carried[0].numel() != own.shards[0].numel():
            return own
        return Tensor(
            [s.reshape(tuple(own.shape)) for s in carried], own.shape, own.dtype, own.layout, own.config
        )

    def _golden(self, call: Call, stands_for: dict[int, Tensor]) -> list[Shards]:
        from harness.targets.shadow.golden import in_fp32

        assert self._calls is not None
        arguments = self._calls.with_tensors((call.args, call.kwargs), stands_for)
        copies = replaced(arguments, _copied)  # a golden may write to what it is given
        return in_fp32(call.op, copies, self._calls.to_host)

    def _held(self, real: Any) -> Shards:
        assert self._calls is not None
        return [shard.float().clone() for shard in self._calls.values.tensor(real).shards]


@contextmanager
def watched() -> Iterator[Watched]:
    """`with watched() as ops: module(x)`: every op that runs meanwhile. Raises UserError on another target than shadow."""
    import ttnn

    ops = Watched(ttnn)
    with shadow.listening(ops) as calls:
        ops._calls = calls
        yield ops


def _copied(tensor: Tensor) -> Tensor:
    shards = [shard.clone() for shard in tensor.shards]
    return Tensor(shards, tensor.shape, tensor.dtype, tensor.layout, tensor.config)


def _shaped(golden: Sequence[torch.Tensor], device: Sequence[torch.Tensor]) -> Shards:
    """A golden's values in the result's shape, and for as many devices."""
    each = list(golden) if len(golden) == len(device) else [golden[0]] * len(device)
    return [
        g.reshape(h.shape).float() if g.numel() == h.numel() else g.float()
        for g, h in zip(each, device, strict=True)
    ]


def _shown(error: Error | None) -> str:
    return "      -" if error is None else f"{error.rel_l2:7.1e}"


def _site() -> tuple[str, int]:
    here = str(Path(__file__).parent)
    for frame in callers(sys._getframe(1)):
        if not frame.f_code.co_filename.startswith(here):
            return frame.f_code.co_filename, frame.f_lineno
    return "", 0
