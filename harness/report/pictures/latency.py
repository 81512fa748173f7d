"""The plots of the latency suite: speed by devices and batch, where a step's time goes, the roofline, and steps in a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from harness.gates.history import Point, Step
from harness.report.pictures.picture import WIDTH, Picture, drawn
from harness.report.tables.latency import devices
from harness.results.schema import Record
from harness.timing.device_model.architectures import WORMHOLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_OPS = 7  # a colour each; the rest is one more
MOST_FIGURES = 6  # of a history


def pictures(records: Sequence[Record]) -> list[Picture]:
    """Those that the whole model's times fill; without any, none."""
    whole = [r for r in records if r.module == "model" and r.samples and r.value]
    steps = [r for r in whole if r.metric == "step_time" and r.note.startswith("traced")]
    by_bar = _one_shape(steps)
    plots = []
    if len({r.mesh for r in steps}) > 1 or len({r.batch for r in steps}) > 1:
        plots.append(_speed(steps))
    if any(_op_seconds(r) for r in by_bar):
        plots.append(_stack(by_bar))
    if any(_number(r, "flops") for r in whole):
        plots.append(_roofline([r for r in whole if _number(r, "flops")]))
    return plots


def history_picture(figures: Mapping[str, tuple[Sequence[Point], Sequence[Step]]]) -> Picture:
    """The medians of figures with a step, each relative to its first, and where their level changed."""
    figure, axes = _axes(3.4)
    lines = []
    for number, (name, (points, steps)) in enumerate(list(figures.items())[:MOST_FIGURES]):
        colour = f"C{number}"
        relative = [point.seconds / points[0].seconds for point in points]
        axes.plot(range(len(points)), relative, "o-", markersize=3, linewidth=1, color=colour, label=name)
        for step in steps:
            axes.axvline(step.index - 0.5, color=colour, linestyle=":")
            lines.append(f"{name} {step.ratio - 1:+.1%} at {points[step.index].run}")
    axes.set_xlabel("run")
    axes.set_ylabel("time / first run's")
    axes.legend(fontsize=5, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2))
    return drawn(figure, "Times over runs, and their steps", "; ".join(lines))


def _speed(steps: Sequence[Record]) -> Picture:
    position = min(r.seq_len for r in steps)
    figure, axes = _axes()
    lines = []
    for precision, batch in sorted({(r.precision, r.batch) for r in steps}):
        line = {
            devices(r.mesh): 1 / r.value
            for r in steps
            if r.value and (r.precision, r.batch, r.seq_len) == (precision, batch, position)
        }
        x = sorted(line)
        axes.plot(x, [line[n] for n in x], "o-", label=f"{precision}, batch {batch}")
        lines.append(f"{precision}, batch {batch}: " + ", ".join(f"{line[n]:.0f} on {n}" for n in x))
    axes.set_xscale("log", base=2)
    counts = sorted({devices(r.mesh) for r in steps})
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("devices")
    axes.set_ylabel("t/s/u")
    axes.legend(fontsize=7, frameon=False)
    title = f"Decode speed by devices and batch, position {position}, clock: {steps[0].clock}"
    return drawn(figure, title, f"Tokens a second and user. {'; '.join(lines)}")


def _stack(records: Sequence[Record]) -> Picture:
    figure, axes = _axes(3.2)
    seconds = [_op_seconds(r) for r in records]
    names = [f"{r.mesh}\n{r.precision}" for r in records]
    totals: dict[str, float] = {}
    for each in seconds:
        for op, value in each.items():
            totals[op] = totals.get(op, 0.0) + value
    largest = sorted(totals, key=lambda op: -totals[op])[:MOST_OPS]
    base = [0.0] * len(records)
    for number, op in enumerate([*largest, "other"]):
        part = [
            sum(v for name, v in each.items() if name == op or (op == "other" and name not in largest)) * 1e3
            for each in seconds
        ]
        axes.bar(names, part, bottom=base, label=op, color=f"C{number}", width=0.6)
        base = [b + p for b, p in zip(base, part, strict=True)]
    axes.set_ylabel("ms")
    axes.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    first = records[0]
    title = f"Where a decode step's time goes, batch {first.batch}, position {first.seq_len}, clock: {first.clock}"
    text = "; ".join(
        f"{name.replace(chr(10), ' ')}: "
        + ", ".join(f"{op} {each.get(op, 0) * 1e3:.2f} ms" for op in largest)
        for name, each in zip(names, seconds, strict=True)
    )
    return drawn(figure, title, text)


def _roofline(records: Sequence[Record]) -> Picture:
    """Of one device: FLOP/s a pass reaches over the FLOPs it does for each byte of DRAM, under the chip's limits."""
    figure, axes = _axes()
    ridge = [1.0, 1e4]
    for fidelity in ("LoFi", "HiFi4"):
        peak = WORMHOLE.flops_per_core[fidelity] * WORMHOLE.cores
        roof = [
            min(peak, x * WORMHOLE.dram_sharded) / 1e12
            for x in (ridge[0], peak / WORMHOLE.dram_sharded, ridge[1])
        ]
        axes.plot(
            [ridge[0], peak / WORMHOLE.dram_sharded, ridge[1]],
            roof,
            linewidth=1,
            label=f"Wormhole, {fidelity}",
        )
    for phase, marker in (("prefill", "^"), ("decode", "o")):
        mine = [r for r in records if r.phase == phase and _number(r, "dram_bytes")]
        x = [_number(r, "flops") / _number(r, "dram_bytes") for r in mine]
        y = [_number(r, "flops") / r.value / 1e12 for r in mine if r.value]
        axes.scatter(x, y, marker=marker, s=14, label=phase, color="C2" if phase == "prefill" else "C3")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOPs a byte of DRAM")
    axes.set_ylabel("TFLOP/s a device")
    axes.legend(fontsize=7, frameon=False)
    best = max(_number(r, "flops") / r.value / 1e12 for r in records if r.value)
    title = f"Roofline of the passes, clock: {records[0].clock}"
    return drawn(figure, title, f"{len(records)} passes; the best reaches {best:.2f} TFLOP/s on each device.")


def _axes(height: float = 2.8) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _one_shape(steps: Sequence[Record]) -> list[Record]:
    """One record a mesh and precision: the largest batch at the first position."""
    if not steps:
        return []
    batch, position = max(r.batch for r in steps), min(r.seq_len for r in steps)
    return [r for r in steps if (r.batch, r.seq_len) == (batch, position)]


def _op_seconds(record: Record) -> dict[str, float]:
    seconds = (
        (name.removeprefix("op "), value) for name, value in record.details.items() if name[:3] == "op "
    )
    return {name: value for name, value in seconds if isinstance(value, float)}


def _number(record: Record, name: str) -> float:
    value = record.details.get(name, 0.0)
    return value if isinstance(value, float) else 0.0
