"""The latency tables: prefill by prompt, decode by batch and position, each by mesh and with its clock named.

Efficiency is the time on one device over the time on several, times their number; the last column is the share of
collectives in the time.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from harness.results.schema import Record

TIMED = ("ttft", "step_time")
SAID = {"model": "model, not measured", "host": "host", "device": "device"}
Key = tuple[str, str, int, int]  # mesh, precision, batch, seq_len


def latency_tables(records: Sequence[Record]) -> list[Table]:
    """A table for prefill and one for decode, for each precision and clock; none when nothing was timed."""
    tables = []
    timed = [r for r in records if r.clock and r.metric in TIMED]
    for precision, clock in dict.fromkeys((r.precision, r.clock) for r in timed):
        mine = [r for r in records if (r.precision, r.clock) == (precision, clock)]
        title = f"{precision}; clock: {SAID[str(clock)]}"
        if any(r.phase == "prefill" for r in mine):
            tables.append(_prefill(mine, title))
        if any(r.phase == "decode" for r in mine):
            tables.append(_decode(mine, title))
    return tables


def devices(mesh: str) -> int:
    """ "1x8" -> 8."""
    rows, _, columns = mesh.partition("x")
    return int(rows) * int(columns)


def efficiency(one: float | None, several: float | None, mesh: str) -> float | None:
    """Parallel efficiency: the time on one device over the time on several, times their number."""
    return None if one is None or several is None else one / several / devices(mesh)


def _prefill(records: Sequence[Record], clock: str) -> Table:
    table = _table(
        f"Prefill, {clock}",
        ("prompt", "TTFT\nms", "t/s", "1 layer\nms", "effi-\nciency", "col-\nlectives"),
    )
    for key in _keys(records, "prefill", "model"):
        mesh, _, _, prompt = key
        ttft = _value(records, key, "ttft")
        table.add_row(
            mesh,
            str(prompt),
            _ms(ttft),
            "-" if ttft is None else f"{prompt / ttft:.0f}",
            _ms(_value(records, key, "ttft", layer=True)),
            _percent(efficiency(_value(records, ("1x1", *key[1:]), "ttft"), ttft, mesh)),
            _percent(_value(records, key, "collective_share")),
        )
    return table


def _decode(records: Sequence[Record], clock: str) -> Table:
    table = _table(
        f"Decode step, {clock}",
        (
            "batch",
            "posi-\ntion",
            "step\nms",
            "t/s/u",
            "t/s",
            "t/s/u, no\ntrace",
            "1 layer\nms",
            "effi-\nciency",
            "col-\nlectives",
        ),
    )
    for key in _keys(records, "decode", "model"):
        mesh, _, batch, position = key
        step = _value(records, key, "step_time")
        untraced = _value(records, key, "step_time", traced=False)
        table.add_row(
            mesh,
            str(batch),
            str(position),
            _ms(step),
            _rate(step, 1),
            _rate(step, batch),
            _rate(untraced, 1),
            _ms(_value(records, key, "step_time", layer=True)),
            _percent(efficiency(_value(records, ("1x1", *key[1:]), "step_time"), step, mesh)),
            _percent(_value(records, key, "collective_share")),
        )
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in ("mesh", *columns):
        table.add_column(column, justify="left" if column == "mesh" else "right", no_wrap=True)
    return table


def _keys(records: Sequence[Record], phase: str, module: str) -> list[Key]:
    timed = [r for r in records if r.metric in TIMED and r.phase == phase and r.module == module]
    return list(dict.fromkeys((r.mesh, r.precision, r.batch, r.seq_len) for r in timed))


def _value(
    records: Sequence[Record], key: Key, metric: str, *, traced: bool | None = None, layer: bool = False
) -> float | None:
    """A figure of the whole model, or of the model cut to one layer; of a decode step the traced one where there is one."""
    figures = {
        r.note.startswith("traced"): r.value
        for r in records
        if r.metric == metric
        and (r.mesh, r.precision, r.batch, r.seq_len) == key
        and (r.module != "model") == layer
    }
    if traced is not None:
        return figures.get(traced)
    return figures.get(True, figures.get(False))


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def _rate(seconds: float | None, tokens: int) -> str:
    return "-" if seconds is None else f"{tokens / seconds:.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
