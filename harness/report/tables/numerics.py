"""The numerics suite's tables: each op and setting, and each error to the golden, ours beside the simulated Wormhole's."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from harness.results.schema import Record, Verdict

AGREEMENT, ERRORS, SHARE = "bit_exact", "error_change", "kl_share"
AGREEMENT_COLUMNS = (
    "bit exact,\nn",
    "max\nulp",
    "ulps, %: 0/1/2\n3-4/5-16/more",
    "1-PCC to\nrecorded;\nto fp32",
    "norm\nratio",
)
BAD: tuple[Verdict, ...] = ("regression",)


def numerics_tables(records: Sequence[Record]) -> list[Table]:
    """The ops' table and the golden's; none of a run without such records."""
    tables = (_agreement_table(records), _error_table(records))
    return [table for table in tables if table is not None]


def _agreement_table(records: Sequence[Record]) -> Table | None:
    """A row an op and setting; the worst of its cases in each cell, the histogram their mean."""
    rows = [r for r in records if r.metric == AGREEMENT and "setting" in r.details]
    if not rows:
        return None
    table = _table(
        "Against the recorded output of a simulated Wormhole (to fp32, norm: ours over the recorded's)"
    )
    table.add_column("op and setting", overflow="fold", min_width=18)
    for title in AGREEMENT_COLUMNS:
        table.add_column(title, justify="right", overflow="fold")
    missed = {r.test for r in records if r.verdict in BAD and r.metric != "none"}
    groups: dict[str, list[Record]] = {}
    for r in rows:
        groups.setdefault(_group(r), []).append(r)
    for setting, group in groups.items():
        bad = any(r.verdict in BAD for r in group) or _missed(records, group, missed)
        exact = min(r.value if r.value is not None else 0.0 for r in group)
        cells = (
            f"{_share(exact)}\n{sum(r.n for r in group)}",
            _worst(group, "max_ulp", "{:.3g}"),
            _histogram(group),
            "\n".join(
                _worst(group, key, "{:.1e}") for key in ("recorded_gap", "fp32_gap", "recorded_fp32_gap")
            ),
            f"{_far(group, 'norm_ratio')}\n{_far(group, 'recorded_norm_ratio')}",
        )
        style = "red" if bad else ""
        table.add_row(*(Text(cell, style=style) for cell in (setting + ("!" if bad else ""), *cells)))
    return table


def _error_table(records: Sequence[Record]) -> Table | None:
    """A row a point of a chained run: our error, the recorded one, what the first differs by."""
    rows = [r for r in records if r.metric in (ERRORS, SHARE) and "what" in r.details]
    if not rows:
        return None
    table = _table("Chained runs: error to the fp32 golden, and distance to the recorded run")
    table.add_column("run", overflow="fold")
    table.add_column("what", overflow="fold")
    for title in ("ours", "recorded", "change\nor share"):
        table.add_column(title, justify="right", no_wrap=True)
    for r, of in _worst_of_groups(rows):
        bad = r.verdict in BAD
        value = 0.0 if r.value is None else r.value
        change = f"{100 * value:.3g}%" if r.metric == ERRORS else f"{value:.3g}"
        ours, recorded = (_number(r.details[key]) for key in ("ours", "recorded"))
        cells = (
            f"{r.precision} {r.module}",
            str(r.details["what"]) + (f" (worst of {of})" if of > 1 else ""),
            ours,
            recorded,
            change + ("!" if bad else ""),
        )
        table.add_row(*(Text(cell, style="red" if bad else "") for cell in cells))
    return table


def _group(record: Record) -> str:
    """What a row is for: the setting without K and its blocks, or the wider one that the record says it belongs to."""
    setting = str(record.details.get("group", record.details["setting"]))
    parts = [part for part in setting.split(", ") if not part.startswith(("blocks of", "K"))]
    return ", ".join(parts)


def _worst_of_groups(rows: Sequence[Record]) -> list[tuple[Record, int]]:
    """Records as they are, but of each group within a run the worst one only, with how many it stands for."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for r in rows:
        groups.setdefault((r.test, str(r.details.get("group", r.details["what"]))), []).append(r)
    return [(max(group, key=lambda r: r.value or 0.0), len(group)) for group in groups.values()]


def _missed(records: Sequence[Record], group: Sequence[Record], tests: set[str]) -> bool:
    """Whether another metric of the group's points missed its gate."""
    points = {(r.test, r.details.get("point")) for r in group if r.test in tests}
    return any(r.verdict in BAD and (r.test, r.details.get("point")) in points for r in records)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _values(group: Iterable[Record], key: str) -> list[float]:
    return [float(r.details[key]) for r in group if isinstance(r.details.get(key), (int, float))]


def _worst(group: Sequence[Record], key: str, form: str) -> str:
    values = _values(group, key)
    return form.format(max(values)) if values else "-"


def _far(group: Sequence[Record], key: str) -> str:
    """Of ratios the one farthest from 1."""
    values = _values(group, key)
    return f"{max(values, key=lambda ratio: abs(ratio - 1)):.4f}" if values else "-"


def _histogram(group: Sequence[Record]) -> str:
    shares = [
        [float(part) for part in str(r.details["ulps"]).split("/")] for r in group if "ulps" in r.details
    ]
    if not shares:
        return "-"
    means = [f"{sum(column) / len(shares):.3g}" for column in zip(*shares, strict=True)]
    return f"{'/'.join(means[:3])}\n{'/'.join(means[3:])}"


def _share(value: float) -> str:
    """Cut, so that only what is wholly equal reads 100%."""
    return "100%" if value == 1 else f"{int(value * 1e4) / 100:.2f}%"


def _number(value: float | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
