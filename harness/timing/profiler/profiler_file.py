"""The profiler's file of ops, `ops_perf_results_*.csv`, read as tt-perf-report reads it: the same region, the same ops, the same total.

Where tt-perf-report leaves a row's time out with a warning, or falls back on another region, this refuses: two files that are
compared must both be whole.
"""

from __future__ import annotations

import csv
import io
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UserError

INPUTS = 4  # of an op, at most, in the file
HOST = " (torch)"  # how tt-perf-report knows an op of the host
KERNEL, GAP = "DEVICE KERNEL DURATION [ns]", "OP TO OP LATENCY [ns]"
_NEEDED = ("OP CODE", "OP TYPE", "DEVICE ID", KERNEL)
_DEVICE, _SIGNPOST = "tt_dnn_device", "signpost"
_COLLECTIVES = ("AllGather", "ReduceScatter", "AllReduce")
# A gap so far below zero says that the row's timestamps are broken, as tt-perf-report has it.
_BROKEN_GAP = 1_000_000  # ns
_MOST_SHOWN = 3

Row = dict[str, str]


class ReportError(UserError):
    """A file that is no profiler's file of ops, or has nothing whole to compare; the message is one line that names it."""


@dataclass(frozen=True)
class Region:
    """Which rows of a file are taken: tt-perf-report's options of these names."""

    start_signpost: str | None = None
    end_signpost: str | None = None
    ignore_signposts: bool = False
    id_range: str | None = None  # "5-10", "31-" or "-12", of lines of the file
    tracing_mode: bool = False  # rows as they stand in the file, not by HOST START TS
    merge_devices: bool = True


WHOLE_FILE = Region()


@dataclass(frozen=True)
class Tensor:
    """What the file says of an op's tensor: padded shape, dtype, memory ("DEV_0_DRAM_INTERLEAVED")."""

    shape: tuple[int, ...]
    dtype: str
    memory: str


@dataclass(frozen=True)
class ReportedOp:
    """A row of the file. Times in seconds; a gap is None where the file has none, or it lies before the region."""

    code: str
    seconds: float
    gap: float | None
    fidelity: str
    cores: int
    inputs: tuple[Tensor, ...]
    output: Tensor | None
    on_host: bool
    layer: int | None = None


@dataclass(frozen=True)
class OpReport:
    """The ops of a region. `signpost`: what it begins behind. `clock`: "device", or "model" for a file made here.

    `warnings`: what makes the merging of devices doubtful, a line each.
    """

    signpost: str
    clock: str
    ops: tuple[ReportedOp, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Line:
    """A row with its number in the file, the header's being 1."""

    number: int
    row: Row

    @property
    def code(self) -> str:
        return self.row["OP CODE"]

    @property
    def is_signpost(self) -> bool:
        return self.row["OP TYPE"] == _SIGNPOST

    @property
    def on_device(self) -> bool:
        return self.row["OP TYPE"] == _DEVICE and not self.code.endswith(HOST)

    @property
    def device(self) -> int | None:
        number = _number(self.row.get("DEVICE ID"))
        return int(number) if number is not None and number >= 0 and number.is_integer() else None

    @property
    def nanoseconds(self) -> float | None:
        return _number(self.row.get(KERNEL))


def read(path: Path, region: Region = WHOLE_FILE) -> OpReport:
    """Reads a region of the file; of several devices each op once, with the time of the slowest, of a collective the mean.

    Raises ReportError for another file, a signpost or range that is not there, no op in the region, and incomplete rows.
    """
    lines = _lines(path)
    if not region.tracing_mode:
        lines.sort(key=_start)
    signpost, selection = _between(path, lines, region)
    selection = [line for line in selection if not line.is_signpost]
    incomplete = [line for line in selection if _incomplete(line)]
    ids = _id_range(region.id_range)
    warnings: list[str] = []
    if region.merge_devices:
        selection = _merged(selection, warnings)
    region_lines = [line for line in selection if ids[0] <= line.number <= ids[1]]
    if ids[0] > 0 or ids[1] < math.inf:
        incomplete = [line for line in incomplete if ids[0] <= line.number <= ids[1]]
    if incomplete:
        names = ", ".join(
            f"line {x.number} ({x.code}: {x.row.get(KERNEL)!r})" for x in incomplete[:_MOST_SHOWN]
        )
        more = f" and {len(incomplete) - _MOST_SHOWN} more" if len(incomplete) > _MOST_SHOWN else ""
        raise ReportError(
            f"{path}: {len(incomplete)} rows without a usable {KERNEL}: {names}{more}; profile again, or choose a"
            " region without them"
        )
    if not any(line.on_device for line in region_lines):
        posts = ", ".join(repr(line.code) for line in lines if line.is_signpost) or "none"
        behind = f" behind the signpost {signpost!r}" if signpost else ""
        raise ReportError(
            f"{path}: no op of a device{behind}; its signposts: {posts}; choose with --start-signpost, --end-signpost,"
            " --ignore-signposts, --id-range"
        )
    ops = [_op(line) for line in region_lines]
    ops[0] = replace(ops[0], gap=None)  # to an op that is not of the region
    clock = (region_lines[0].row.get("CLOCK") or "").strip() or "device"
    return OpReport(signpost, clock, tuple(ops), tuple(warnings))


def seconds_of(ops: Sequence[ReportedOp]) -> float:
    """All of it: ops, gaps and transfers."""
    return sum(op.seconds + (op.gap or 0.0) for op in ops)


def _lines(path: Path) -> list[_Line]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReportError(f"op report {path} cannot be read: {error}") from error
    columns = list(rows[0]) if rows else text.partition("\n")[0].split(",")
    for name in _NEEDED:
        if name not in columns:
            raise ReportError(f"{path} is not a profiler's file of ops: it has no {name}")
    lines = [_Line(number, row) for number, row in enumerate(rows, 2)]
    for line in lines:
        for name in ("OP CODE", "OP TYPE"):
            if not line.row[name]:
                raise ReportError(
                    f"{path}, line {line.number}: it has no {name}; the file is cut short, or damaged"
                )
    return lines


def _start(line: _Line) -> float:
    """When the host issued it; rows that do not say come last, as they stand. Without the column nothing is moved."""
    started = _number(line.row.get("HOST START TS"))
    return math.inf if started is None else started


def _between(path: Path, lines: list[_Line], region: Region) -> tuple[str, list[_Line]]:
    """The signpost that the region begins behind, and its lines."""
    posts = [place for place, line in enumerate(lines) if line.is_signpost]
    if region.ignore_signposts:
        if region.start_signpost is not None or region.end_signpost is not None:
            raise ReportError("--ignore-signposts with --start-signpost or --end-signpost: choose one")
        return "", lines
    first, end = region.start_signpost, region.end_signpost
    if first is None and end is None:
        if not posts:
            return "", lines
        last = lines[posts[-1]].code
        # Behind the first row of that name: a signpost may stand several times.
        return last, lines[next(i for i, line in enumerate(lines) if line.code == last) + 1 :]
    # By lines of the file, as tt-perf-report has it, though the rows are in another order by now.
    start = 0 if first is None else _post(path, lines, first, 0).number
    stop = math.inf if end is None else _post(path, lines, end, 1 if first == end else 0).number
    return first or "", [line for line in lines if start < line.number < stop]


def _post(path: Path, lines: list[_Line], name: str, nth: int) -> _Line:
    """The nth signpost of a name."""
    posts = [line for line in lines if line.is_signpost]
    posts_of_name = [line for line in posts if line.code == name]
    if len(posts_of_name) <= nth:
        names = ", ".join(dict.fromkeys(repr(line.code) for line in posts)) or "none"
        often = "second signpost" if nth else "signpost"
        raise ReportError(f"{path}: it has no {often} {name!r}; its signposts: {names}")
    return posts_of_name[nth]


def _id_range(text: str | None) -> tuple[float, float]:
    """The first and the last line of a range. Raises ReportError."""
    if text is None:
        return 0, math.inf
    first, dash, last = text.replace(",", "").partition("-")
    if not dash or not all(part == "" or part.isdecimal() for part in (first, last)) or not first + last:
        raise ReportError(f"id range {text!r}: give lines of the file, such as 5-10, 31- or -12")
    return int(first or 0), int(last) if last else math.inf


def _incomplete(line: _Line) -> bool:
    """Whether an op says no usable time. A host's op need not say one; what it does say must be a time."""
    if not line.on_device and not (line.row.get(KERNEL) or "").strip():
        return False
    taken, gap = line.nanoseconds, _number(line.row.get(GAP))
    if taken is None or taken < 0:
        return True
    return gap is not None and gap < -_BROKEN_GAP and abs(gap) > max(taken / 2, _BROKEN_GAP)


def _merged(lines: list[_Line], warnings: list[str]) -> list[_Line]:
    """Each op of several devices once, where the first of them stands: they run the same ops in the same order."""
    waiting: dict[int, deque[tuple[int, _Line]]] = {}
    placed: list[tuple[int, _Line]] = []
    for place, line in enumerate(lines):
        if line.on_device and line.device is not None:
            waiting.setdefault(line.device, deque()).append((place, line))
            continue
        if line.on_device:
            warnings.append(f"line {line.number}: {line.code} has no usable DEVICE ID and is taken by itself")
        placed.append((place, line))
    devices = sorted(waiting)
    while any(waiting.values()):
        code = next(waiting[device][0][1].code for device in devices if waiting[device])
        block = [waiting[d].popleft() for d in devices if waiting[d] and waiting[d][0][1].code == code]
        if len(block) < len(devices):
            warnings.append(
                f"line {block[0][1].number}: {code} is on {len(block)} of {len(devices)} devices there: the order of their"
                " ops differs, and what follows may be merged wrongly"
            )
        placed.append((min(place for place, _ in block), _slowest([line for _, line in block])))
    return [line for _, line in sorted(placed, key=lambda one: one[0])]


def _slowest(block: list[_Line]) -> _Line:
    """The row that stands for an op of several devices."""
    if any(name in block[0].code for name in _COLLECTIVES):
        times = [line.nanoseconds for line in block if line.nanoseconds is not None]
        mean = repr(sum(times) / len(times)) if times else ""
        return replace(block[0], row={**block[0].row, KERNEL: mean})
    return max(block, key=lambda line: -1.0 if line.nanoseconds is None else line.nanoseconds)


def _op(line: _Line) -> ReportedOp:
    row, gap = line.row, _number(line.row.get(GAP))
    layer, cores = _number(row.get("LAYER")), _number(row.get("CORE COUNT"))
    return ReportedOp(
        code=line.code,
        seconds=(line.nanoseconds or 0.0) / 1e9,
        gap=gap / 1e9 if gap is not None and gap >= 0 else None,
        fidelity=row.get("MATH FIDELITY") or "",
        cores=int(cores or 0),
        inputs=tuple(_tensors(row, [f"INPUT_{i}" for i in range(INPUTS)])),
        output=next(_tensors(row, ["OUTPUT_0"]), None),
        on_host=not line.on_device,
        layer=None if layer is None else int(layer),
    )


def _tensors(row: Row, names: Sequence[str]) -> Iterator[Tensor]:
    for name in names:
        if row.get(f"{name}_DATATYPE"):
            cells = (
                row.get(f"{name}_{axis}_PAD[LOGICAL]") or row.get(f"{name}_{axis}") or "1" for axis in "WZYX"
            )
            shape = tuple(int(_number(cell.partition("[")[0]) or 0) for cell in cells)
            yield Tensor(shape, row[f"{name}_DATATYPE"], row.get(f"{name}_MEMORY") or "")


def _number(cell: str | None) -> float | None:
    """A cell's finite number; None for a cell that is empty, absent or says something else."""
    try:
        number = float(cell or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
