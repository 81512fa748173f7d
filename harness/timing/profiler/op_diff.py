"""Two op reports of the same pass, aligned op by op: which op is new, gone, slower, computes otherwise, or lies elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from statistics import median

from harness.timing.profiler.profiler_file import ReportedOp, Tensor

SLOWER = 1.02  # a time that grew by less has not changed
SHIFTED = 2.0  # gaps that grew by less have not changed
_DEVICE = re.compile(r"^DEV_\d+_")


@dataclass(frozen=True)
class Change:
    """The same change to the same op, wherever it happened. `seconds`: what all of them cost together, above 0 is slower."""

    what: str
    op: str
    count: int
    layers: tuple[int, ...]
    seconds: float

    def __str__(self) -> str:
        if not self.op:
            return self.what
        where = f" in {len(self.layers)} layer{'s' * (len(self.layers) != 1)}" if self.layers else ""
        return f"{self.op}: {self.what}, {self.count} time{'s' * (self.count != 1)}{where}, {self.seconds * 1e6:+.1f} us"


def changes(before: Sequence[ReportedOp], after: Sequence[ReportedOp]) -> list[Change]:
    """Every kind of change once, the costliest first."""
    before, after = [*map(_on_any_device, before)], [*map(_on_any_device, after)]
    groups: dict[tuple[str, str], list[tuple[ReportedOp, float]]] = {}
    pairs = []
    signatures = [list(map(_signature, ops)) for ops in (before, after)]
    matcher = SequenceMatcher(None, signatures[0], signatures[1], autojunk=False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        if tag == "equal":
            pairs += list(zip(before[a0:a1], after[b0:b1], strict=True))
            continue
        for op in before[a0:a1]:
            groups.setdefault(("removed", _named(op)), []).append((op, -op.seconds - (op.gap or 0.0)))
        for op in after[b0:b1]:
            groups.setdefault(("added", _named(op)), []).append((op, op.seconds + (op.gap or 0.0)))
    for then, now in pairs:
        if what := "; ".join(_differences(then, now)):
            groups.setdefault((what, _named(now)), []).append((now, now.seconds - then.seconds))
    listed = [_change(what, op, each) for (what, op), each in groups.items()]
    return sorted([*listed, *_gaps(pairs)], key=lambda change: -abs(change.seconds))


def comparable(
    before: Sequence[ReportedOp], after: Sequence[ReportedOp]
) -> tuple[list[ReportedOp], list[ReportedOp], int]:
    """Both, a gap that only one of them says left out of the other too; and how many ops they share."""
    then, now, shared = list(before), list(after), 0
    first, second = ([*map(_signature, ops)] for ops in (before, after))
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    for start, other, length in matcher.get_matching_blocks():
        shared += length
        for i, j in zip(range(start, start + length), range(other, other + length), strict=True):
            if then[i].gap is None or now[j].gap is None:
                then[i], now[j] = replace(then[i], gap=None), replace(now[j], gap=None)
    return then, now, shared


def _on_any_device(op: ReportedOp) -> ReportedOp:
    """As the same op on another device of a mesh would say it: the slowest of them stands for all."""

    def named(tensor: Tensor) -> Tensor:
        return replace(tensor, memory=_DEVICE.sub("DEV_0_", tensor.memory))

    return replace(op, inputs=tuple(map(named, op.inputs)), output=op.output and named(op.output))


def _signature(op: ReportedOp) -> tuple[object, ...]:
    """What an op keeps when its formats, fidelity and memory change."""
    return op.code, op.output.shape if op.output else (), tuple(t.shape for t in op.inputs[:2])


def _differences(then: ReportedOp, now: ReportedOp) -> Iterator[str]:
    inputs = [(f"input {i}", a, b) for i, (a, b) in enumerate(zip(then.inputs, now.inputs, strict=False))]
    if then.output and now.output:
        inputs.append(("output", then.output, now.output))
    for name, a, b in inputs:
        if a.dtype != b.dtype:
            yield f"{name} {a.dtype} -> {b.dtype}"
        if a.memory != b.memory:
            lost = ", sharding lost" if "SHARDED" in a.memory and "SHARDED" not in b.memory else ""
            yield f"{name} {_place(a.memory)} -> {_place(b.memory)}{lost}"
    if then.fidelity != now.fidelity:
        yield f"fidelity {then.fidelity} -> {now.fidelity}"
    if then.cores != now.cores:
        yield f"cores {then.cores} -> {now.cores}"
    if replace(now, seconds=then.seconds, gap=then.gap) == then and now.seconds > SLOWER * then.seconds:
        yield "slower, and nothing else of it changed"


def _change(what: str, op: str, each: Sequence[tuple[ReportedOp, float]]) -> Change:
    layers = sorted({one.layer for one, _ in each if one.layer is not None})
    return Change(what, op, len(each), tuple(layers), sum(seconds for _, seconds in each))


def _gaps(pairs: Sequence[tuple[ReportedOp, ReportedOp]]) -> Iterator[Change]:
    """Whether the device waits longer between the ops that both have."""
    on_device = [
        (a.gap, b.gap) for a, b in pairs if not a.on_host and a.gap is not None and b.gap is not None
    ]
    if not on_device:
        return
    then, now = (median(pair[i] for pair in on_device) for i in (0, 1))
    if now > SHIFTED * then:
        cost = sum(b - a for a, b in on_device)
        what = (
            f"gaps between ops grew from {then * 1e6:.1f} to {now * 1e6:.1f} us (median), {cost * 1e3:+.2f} ms: "
            "dispatched op by op, not as a trace"
        )
        yield Change(what, "", len(on_device), (), cost)


def _named(op: ReportedOp) -> str:
    """ "Matmul 32 x 4096 x 14336"."""
    name = op.code.removesuffix("DeviceOperation")
    if name == "Matmul" and len(op.inputs) > 1:
        *_, m, k = op.inputs[0].shape
        return f"{name} {m} x {k} x {op.inputs[1].shape[-1]}"
    return name


def _place(memory: str) -> str:
    return memory.removeprefix("DEV_0_").replace("_", " ").lower().replace("dram", "DRAM").replace("l1", "L1")
