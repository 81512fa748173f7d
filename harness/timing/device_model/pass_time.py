"""How long a pass would take on a card, from its op log: a roofline for each op, and the gaps between them.

An op takes as long as the slowest of what it needs: its DRAM bytes at the bandwidth of their layout, its FLOPs at the peak of
its fidelity over the cores its program uses, its bytes over the links. Times made here are modelled, never measured: clock
"model". docs/latency.md says how far off they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.timing.device_model.architectures import WORMHOLE, Architecture
from harness.timing.device_model.roofline import (
    COLLECTIVES,
    TO_DEVICE,
    TO_HOST,
    Bound,
    Setting,
    Work,
    short_name,
    work_of,
)
from harness.ttnn_calls.op_log import OpRecord


@dataclass(frozen=True)
class TimedOp:
    """The `index`-th op of a pass. `seconds`: its own time; `gap`: how long the device idled before it.

    `bound`: what most of its time is spent waiting for.
    """

    index: int
    record: OpRecord
    work: Work
    seconds: float
    gap: float
    bound: Bound

    @property
    def name(self) -> str:
        """Without ttnn and its namespaces."""
        return short_name(self.record)


@dataclass(frozen=True)
class PassTime:
    """The modelled time of a pass and of each of its ops."""

    seconds: float
    ops: tuple[TimedOp, ...]

    @property
    def collective_share(self) -> float:
        """The part of the time that collectives and the gaps before them take."""
        spent = sum(op.seconds + op.gap for op in self.ops if op.name in COLLECTIVES)
        return spent / self.seconds if self.seconds else 0.0

    def by_bound(self) -> dict[str, float]:
        """Seconds by what they wait for; the gaps count as dispatch."""
        seconds: dict[str, float] = {}
        for op in self.ops:
            seconds[op.bound] = seconds.get(op.bound, 0.0) + op.seconds
            seconds["dispatch"] = seconds.get("dispatch", 0.0) + op.gap
        return seconds

    def by_op(self) -> dict[str, float]:
        """Seconds by op name, each with the gap before it."""
        seconds: dict[str, float] = {}
        for op in self.ops:
            seconds[op.name] = seconds.get(op.name, 0.0) + op.seconds + op.gap
        return seconds


def pass_time(records: Sequence[OpRecord], setting: Setting, chip: Architecture = WORMHOLE) -> PassTime:
    """The ops one after the other, as one command queue runs them.

    Under a trace the host only moves data, and a program starts `launch` after the one before it. Without, the host issues
    an op every `dispatch` and runs ahead of the device; a program starts when it has been issued and the one before it is
    done. A read waits for the device. Collectives and host traffic do not overlap with other ops.
    """
    host = device = 0.0  # when each is free
    timed = []
    for index, record in enumerate(records):
        work = work_of(record, setting, chip)
        if work is None:
            continue
        name = short_name(record)
        bound: Bound = max(work.seconds, key=lambda b: work.seconds[b])
        seconds = work.seconds[bound] + (work.programs - 1) * chip.launch
        before = max(host, device) if setting.traced else device
        if name in TO_DEVICE:
            host = (before if setting.traced else host) + chip.dispatch + seconds
            device, gap = max(device, host), chip.dispatch
        elif name in TO_HOST:
            host = max(host, device) + chip.dispatch + seconds
            device, gap = host, chip.dispatch
        else:
            host += 0.0 if setting.traced else chip.dispatch
            start = max(device + chip.launch, host)
            gap, device = start - device, start + seconds
            if gap > seconds:
                bound = "dispatch"
        timed.append(TimedOp(index, record, work, seconds, gap, bound))
    return PassTime(max(host, device), tuple(timed))
