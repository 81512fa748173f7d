"""The profiler's file of ops, `ops_perf_results_*.csv`, written from an op log and the device model.

Durations that the model made are marked so in a column that the profiler does not have, CLOCK, and in the signpost; tools that
read the profiler's file pass over a column they do not know.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from harness.results.schema import write_text_atomically
from harness.timing.device_model.architectures import Architecture
from harness.timing.device_model.pass_time import PassTime, TimedOp
from harness.timing.device_model.roofline import TO_DEVICE, TO_HOST
from harness.timing.passes import Pass
from harness.timing.profiler.profiler_file import HOST, INPUTS
from harness.ttnn_calls.op_log import TensorSpec

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


def profiler_name(name: str) -> str:
    """ "sharded_to_interleaved" -> "ShardedToInterleavedDeviceOperation"."""
    if name in (*TO_DEVICE, *TO_HOST):
        return name + HOST
    return (
        PROFILER_NAMES.get(name, "".join(part.capitalize() for part in name.split("_"))) + "DeviceOperation"
    )


def _row(number: int, op: TimedOp, chip: Architecture, layer: int | None) -> dict[str, object]:
    record, code = op.record, profiler_name(op.name)
    attributes = record.attributes
    config = ", ".join(
        f"{k}={v}" for k, v in attributes.items() if k not in ("program_config", "math_fidelity")
    )
    row: dict[str, object] = {
        "OP CODE": code,
        "GLOBAL CALL COUNT": number,
        "HOST START TS": number,
        "CLOCK": "model",
        "BOUND": op.bound,
        "LAYER": "" if layer is None else layer,
        "ATTRIBUTES": f"{{'program_config': '{attributes.get('program_config', '')}({config})'}}",
    }
    if code.endswith(HOST):
        return row | {"OP TYPE": "python_fallback", "DEVICE KERNEL DURATION [ns]": round(op.seconds * 1e9)}
    row |= {
        "OP TYPE": "tt_dnn_device",
        "DEVICE ID": 0,
        "DEVICE ARCH": chip.name,
        "MATH FIDELITY": attributes.get("math_fidelity", "HiFi4"),
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
