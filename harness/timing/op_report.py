"""The profiler's file of ops, `ops_perf_results_*.csv`: written from an op log and the device model, or read as a card left it.

Durations that the model made are marked so in a column that the profiler does not have, CLOCK, and in the signpost; tools that
read the profiler's file pass over a column they do not know.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.oplog import TensorSpec
from harness.records import write_text_atomically
from harness.timing.architectures import Architecture
from harness.timing.device_model import PassTime, TimedOp
from harness.timing.passes import Pass
from harness.timing.roofline import TO_DEVICE, TO_HOST

INPUTS = 4  # of an op, at most, in the file
HOST = " (torch)"  # how tt-perf-report knows an op of the host
# Our name of an op -> the profiler's, where it is not the same in capitals.
PROFILER_NAMES = {
    "linear": "Matmul",
    "matmul": "Matmul",
    "rms_norm": "LayerNorm",
    "add": "BinaryNg",
    "mul": "BinaryNg",
    "multiply": "BinaryNg",
    "embedding": "Embeddings",
    "scaled_dot_product_attention": "SDPA",
    "paged_scaled_dot_product_attention_decode": "SdpaDecode",
    "nlp_create_qkv_heads": "NlpCreateHeads",
    "nlp_create_qkv_heads_decode": "NLPCreateQKVHeadsDecode",
    "nlp_concat_heads": "NLPConcatHeads",
    "nlp_concat_heads_decode": "NLPConcatHeadsDecode",
    "all_reduce": "AllReduceAsync",
    "argmax": "ArgMax",
}
_COLUMNS = (
    *("OP CODE", "OP TYPE", "GLOBAL CALL COUNT", "DEVICE ID", "DEVICE ARCH", "ATTRIBUTES", "MATH FIDELITY"),
    *("CORE COUNT", "AVAILABLE WORKER CORE COUNT", "HOST START TS"),
    *("OP TO OP LATENCY [ns]", "DEVICE FW DURATION [ns]", "DEVICE KERNEL DURATION [ns]"),
    *(
        f"{name}_{part}"
        for name in (*(f"INPUT_{i}" for i in range(INPUTS)), "OUTPUT_0")
        for part in (*(f"{axis}_PAD[LOGICAL]" for axis in "WZYX"), "LAYOUT", "DATATYPE", "MEMORY")
    ),
    *("CLOCK", "BOUND", "LAYER"),
)


class ReportError(UserError):
    """A file that is no profiler's file of ops; the message is one line that names it."""


@dataclass(frozen=True)
class Tensor:
    """What the file says of an op's tensor: padded shape, dtype, memory ("DEV_0_DRAM_INTERLEAVED")."""

    shape: tuple[int, ...]
    dtype: str
    memory: str


@dataclass(frozen=True)
class ReportedOp:
    """A row of the file. Times in seconds."""

    code: str
    seconds: float
    gap: float
    fidelity: str
    cores: int
    inputs: tuple[Tensor, ...]
    output: Tensor | None
    layer: int | None = None

    @property
    def on_host(self) -> bool:
        """Whether it is a transfer to or from the host."""
        return self.code.endswith(HOST)


@dataclass(frozen=True)
class OpReport:
    """The ops after the file's last signpost, as tt-perf-report takes them. `clock`: "device", or "model" for one made here."""

    signpost: str
    clock: str
    ops: tuple[ReportedOp, ...]


def write(path: Path, logged: Pass, time: PassTime, chip: Architecture, title: str) -> None:
    """Writes the file, after a signpost of that title. Raises ResultsError where it cannot be written."""
    text = io.StringIO()
    rows = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    rows.writeheader()
    rows.writerow(
        {"OP CODE": f"{title} clock=model", "OP TYPE": "signpost", "HOST START TS": 0, "CLOCK": "model"}
    )
    for number, op in enumerate(time.ops, 1):
        rows.writerow(_row(number, op, chip, logged.layer_of(op.index)))
    write_text_atomically(path, text.getvalue())


def read(path: Path) -> OpReport:
    """Reads the file, of several devices the first one's rows. Raises ReportError."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReportError(f"op report {path} cannot be read: {error}") from error
    missing = [
        name
        for name in ("OP CODE", "OP TYPE", "DEVICE KERNEL DURATION [ns]")
        if not rows or name not in rows[0]
    ]
    if missing:
        raise ReportError(f"{path} is not a profiler's file of ops: it has no {missing[0]}")
    signposts = [i for i, row in enumerate(rows) if row["OP TYPE"] == "signpost"]
    start = signposts[-1] if signposts else -1
    kept = rows[start + 1 :]
    devices = sorted({row.get("DEVICE ID", "") for row in kept if row["OP TYPE"] == "tt_dnn_device"})
    first = devices[0] if devices else ""
    ops = [_op(row) for row in kept if row["OP TYPE"] != "tt_dnn_device" or row.get("DEVICE ID", "") == first]
    clock = (kept[0].get("CLOCK") if kept else "") or "device"
    return OpReport(rows[start]["OP CODE"] if signposts else "", clock, tuple(ops))


def profiler_name(name: str) -> str:
    """ "sharded_to_interleaved" -> "ShardedToInterleavedDeviceOperation"."""
    if name in (*TO_DEVICE, *TO_HOST):
        return name + HOST
    return (
        PROFILER_NAMES.get(name, "".join(part.capitalize() for part in name.split("_"))) + "DeviceOperation"
    )


def _row(number: int, op: TimedOp, chip: Architecture, layer: int | None) -> dict[str, object]:
    record, code = op.record, profiler_name(op.name)
    said = record.attributes
    config = ", ".join(f"{k}={v}" for k, v in said.items() if k not in ("program_config", "math_fidelity"))
    row: dict[str, object] = {
        "OP CODE": code,
        "GLOBAL CALL COUNT": number,
        "HOST START TS": number,
        "CLOCK": "model",
        "BOUND": op.bound,
        "LAYER": "" if layer is None else layer,
        "ATTRIBUTES": f"{{'program_config': '{said.get('program_config', '')}({config})'}}",
    }
    if code.endswith(HOST):
        return row | {"OP TYPE": "python_fallback", "DEVICE KERNEL DURATION [ns]": round(op.seconds * 1e9)}
    row |= {
        "OP TYPE": "tt_dnn_device",
        "DEVICE ID": 0,
        "DEVICE ARCH": chip.name,
        "MATH FIDELITY": said.get("math_fidelity", "HiFi4"),
        "CORE COUNT": op.work.cores,
        "AVAILABLE WORKER CORE COUNT": chip.cores,
        "OP TO OP LATENCY [ns]": round(op.gap * 1e9),
        "DEVICE FW DURATION [ns]": round(op.seconds * 1e9),
        "DEVICE KERNEL DURATION [ns]": round(op.seconds * 1e9),
    }
    for i, tensor in enumerate(record.inputs[:INPUTS]):
        row |= _cells(f"INPUT_{i}", tensor)
    return row | (_cells("OUTPUT_0", record.outputs[0]) if record.outputs else {})


def _cells(name: str, tensor: TensorSpec) -> dict[str, object]:
    rank = len(tensor.shape)
    padded, logical = ((1,) * (4 - rank) + tuple(shape[-4:]) for shape in (tensor.padded_shape, tensor.shape))
    shape = {
        f"{name}_{axis}_PAD[LOGICAL]": f"{p}[{n}]" for axis, p, n in zip("WZYX", padded, logical, strict=True)
    }
    layout, _, buffer = tensor.memory.partition(" ")[0].partition("/")
    memory = f"DEV_0_{buffer}_{layout}" if buffer else tensor.memory
    return {
        **shape,
        f"{name}_LAYOUT": tensor.layout,
        f"{name}_DATATYPE": tensor.dtype,
        f"{name}_MEMORY": memory,
    }


def _op(row: dict[str, str]) -> ReportedOp:
    return ReportedOp(
        code=row["OP CODE"],
        seconds=_float(row, "DEVICE KERNEL DURATION [ns]") / 1e9,
        gap=_float(row, "OP TO OP LATENCY [ns]") / 1e9,
        fidelity=row.get("MATH FIDELITY") or "",
        cores=int(_float(row, "CORE COUNT")),
        inputs=tuple(_tensors(row, (f"INPUT_{i}" for i in range(INPUTS)))),
        output=next(_tensors(row, iter(["OUTPUT_0"])), None),
        layer=int(row["LAYER"]) if row.get("LAYER") else None,
    )


def _tensors(row: dict[str, str], names: Iterator[str]) -> Iterator[Tensor]:
    for name in names:
        if row.get(f"{name}_DATATYPE"):
            cells = (
                row.get(f"{name}_{axis}_PAD[LOGICAL]") or row.get(f"{name}_{axis}") or "1" for axis in "WZYX"
            )
            shape = tuple(int(float(cell.partition("[")[0])) for cell in cells)
            yield Tensor(shape, row[f"{name}_DATATYPE"], row.get(f"{name}_MEMORY") or "")


def _float(row: dict[str, str], name: str) -> float:
    try:
        return float(row.get(name) or 0)
    except ValueError:
        return 0.0


def seconds_of(ops: Sequence[ReportedOp]) -> float:
    """All of it: ops, gaps and transfers."""
    return sum(op.seconds + op.gap for op in ops)
