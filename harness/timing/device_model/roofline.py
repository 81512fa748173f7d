"""What one op of an op log has to do on a chip, and how long each part of that takes at the chip's best."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.timing.device_model.architectures import HOST_CONVERSION, Architecture
from harness.ttnn_calls.op_log import OpRecord, TensorSpec

Bound = Literal["DRAM", "compute", "link", "dispatch", "host"]
TILE = 32
BYTES = {  # of an element; a block float shares 64 exponents a tile (16 elements each)
    "FLOAT32": 4.0,
    "UINT32": 4.0,
    "INT32": 4.0,
    "BFLOAT16": 2.0,
    "UINT16": 2.0,
    "UINT8": 1.0,
    "BFLOAT8_B": 1 + 1 / 16,
    "BFLOAT4_B": 1 / 2 + 1 / 16,
}
# Calls that run no program: bookkeeping, and views.
FREE = ("deallocate", "get_device_tensors", "unsqueeze_to_4D", "synchronize_device")
TO_DEVICE = ("from_torch", "as_tensor", "to_device", "copy_host_to_device_tensor")
TO_HOST = ("to_torch", "from_device")
COLLECTIVES = ("all_gather", "reduce_scatter", "all_reduce")
# Programs that divide their work by tile rows, so that a short prompt keeps few cores busy.
BY_ROWS = ("rms_norm", "nlp_create_qkv_heads", "nlp_concat_heads", "rotary_embedding_llama")


@dataclass(frozen=True)
class Setting:
    """What an op log does not say: how many users decode, at which position, on what mesh, and whether under a trace."""

    users: int = TILE
    position: int = 127  # where a decode step writes; its attention reads up to there
    mesh: tuple[int, int] = (1, 1)
    traced: bool = True


@dataclass(frozen=True)
class Work:
    """What one op has to do on a chip: seconds by bound, and the figures they come from."""

    seconds: dict[Bound, float] = field(default_factory=dict)
    dram_bytes: float = 0.0
    flops: float = 0.0
    link_bytes: float = 0.0
    cores: int = 0
    programs: int = 1


def short_name(record: OpRecord) -> str:
    """ "ttnn.experimental.nlp_concat_heads" -> "nlp_concat_heads"."""
    return record.name.rpartition(".")[2]


def work_of(record: OpRecord, setting: Setting, chip: Architecture) -> Work | None:
    """The work of one op, None for a call that runs nothing on a device and moves nothing to or from one."""
    name = short_name(record)
    if name in FREE or (name == "reshape" and _is_view(record)):
        return None
    if name in TO_DEVICE:
        moved = sum(_size(t) for t in (*record.inputs, *record.outputs) if t.memory != "HOST")
        return Work({"host": moved / chip.host_bandwidth}) if moved else None
    if name in TO_HOST:
        moved = sum(_size(t) for t in record.inputs if t.memory != "HOST")
        return Work({"host": moved / chip.host_bandwidth + moved / HOST_CONVERSION}) if moved else None
    if name in COLLECTIVES:
        return _collective(name, record, setting, chip)
    special: dict[str, Callable[[OpRecord, Setting, Architecture], Work]] = {
        "linear": _matmul,
        "matmul": _matmul,
        "embedding": _lookup,
        "slice": _lookup,
        "mesh_partition": _lookup,
        "paged_update_cache": _cache_write,
        "paged_fill_cache": _cache_write,
        "scaled_dot_product_attention": _prefill_attention,
        "paged_scaled_dot_product_attention_decode": _decode_attention,
    }
    return special.get(name, _moves)(record, setting, chip)


def _moves(record: OpRecord, _: Setting, chip: Architecture) -> Work:
    """An op that takes its inputs and writes its outputs, and computes less than that costs."""
    tensors = (*record.inputs, *record.outputs)
    dram = sum(_size(t) for t in tensors if _in_dram(t))
    cores = _cores(record, chip)
    through = sum(map(_size, tensors)) / cores / chip.core_bandwidth
    return Work({"DRAM": dram / chip.dram_interleaved, "compute": through}, dram, cores=cores)


def _lookup(record: OpRecord, setting: Setting, chip: Architecture) -> Work:
    """Of its first input only the part that comes out is read."""
    return _moves(replace(record, inputs=record.outputs), setting, chip)


def _cache_write(record: OpRecord, setting: Setting, chip: Architecture) -> Work:
    """The cache goes in and comes out, and is touched only where the new rows go."""
    rows = record.inputs[1]
    written = replace(rows, dtype=record.inputs[0].dtype, memory=record.inputs[0].memory)
    return _moves(replace(record, inputs=(rows,), outputs=(written,)), setting, chip)


def _matmul(record: OpRecord, _: Setting, chip: Architecture) -> Work:
    x, weight, out = record.inputs[0], record.inputs[1], record.outputs[0]
    k, n = weight.padded_shape[-2:]
    rows = math.prod(x.padded_shape[:-1])
    flops = 2.0 * rows * k * n
    attributes = record.attributes
    peak = chip.flops_per_core[attributes.get("math_fidelity", "LoFi")]
    program = attributes.get("program_config", "")
    dram = sum(_size(t) for t in (x, weight, out) if _in_dram(t))
    seconds: dict[Bound, float] = {}
    if "DRAMSharded" in program:
        cores = chip.dram_sharded_cores
        seconds["DRAM"] = dram / (
            chip.dram_sharded if "SHARDED/DRAM" in weight.memory else chip.dram_interleaved
        )
        seconds["compute"] = flops / cores / peak
        return Work(seconds, dram, flops, cores=cores)
    seconds["DRAM"] = dram / chip.dram_interleaved
    if "per_core_N" not in attributes:
        cores = chip.cores
        seconds["compute"] = flops / cores / peak
        return Work(seconds, dram, flops, cores=cores)
    per_m, per_n = int(attributes["per_core_M"]), int(attributes["per_core_N"])
    folds = math.prod(x.padded_shape[:-2])
    m_cores, n_cores = -(-(rows // folds // TILE) // per_m), -(-(n // TILE) // per_n)
    cores = min(m_cores * n_cores, chip.cores)
    # Each core makes a block of per_core_M x per_core_N tiles, the last ones in part padding.
    seconds["compute"] = folds * per_m * per_n * 2.0 * TILE * TILE * k / peak
    if program.endswith("MultiCastProgramConfig"):
        # One core of each column reads the weights and passes them on, for each fold anew.
        streamed = folds * _size(weight)
        seconds["DRAM"] = max(seconds["DRAM"], streamed / n_cores / chip.reader)
    return Work(seconds, dram, flops, cores=cores)


def _prefill_attention(record: OpRecord, _: Setting, chip: Architecture) -> Work:
    q, k = record.inputs[:2]
    heads, rows, width = q.padded_shape[-3:]
    keys = k.padded_shape[-2] / (2 if record.attributes.get("is_causal") == "True" else 1)
    flops = 4.0 * q.shape[0] * heads * rows * keys * width
    chunk = int(record.attributes.get("q_chunk_size", TILE))
    cores = min(chip.cores, q.shape[0] * heads * -(-rows // chunk))
    peak = chip.flops_per_core[record.attributes.get("math_fidelity", "LoFi")]
    dram = sum(_size(t) for t in (*record.inputs, *record.outputs) if _in_dram(t))
    return Work(
        {"compute": flops / cores / peak, "DRAM": dram / chip.dram_interleaved}, dram, flops, cores=cores
    )


def _decode_attention(record: OpRecord, setting: Setting, chip: Architecture) -> Work:
    """Each user's pages up to its position are read; its query heads are padded to a tile."""
    cache = record.inputs[1]
    _, kv_heads, block, width = cache.padded_shape
    positions = -(-(setting.position + 1) // block) * block
    read = 2.0 * setting.users * positions * kv_heads * width * BYTES[cache.dtype]
    flops = 4.0 * setting.users * positions * TILE * kv_heads * width
    peak = chip.flops_per_core[record.attributes.get("math_fidelity", "LoFi")]
    seconds: dict[Bound, float] = {
        "DRAM": read / chip.dram_interleaved,
        "compute": flops / chip.cores / peak,
    }
    return Work(seconds, read, flops, cores=chip.cores)


def _collective(name: str, record: OpRecord, setting: Setting, chip: Architecture) -> Work:
    """On a line of d devices (d - 1) / d of the whole tensor crosses the busiest link, in each direction, for a gather and
    for a reduce-scatter; an all-reduce is one of each."""
    axis = record.attributes.get("cluster_axis")
    devices = math.prod(setting.mesh) if axis is None else setting.mesh[int(axis)]
    whole = max(_size(record.inputs[0]), _size(record.outputs[0]))
    parts = 2 if name == "all_reduce" else 1
    crossing = parts * whole * (devices - 1) / devices
    links = int(record.attributes.get("num_links", 1))
    return Work(
        {"link": crossing / links / chip.link_bandwidth},
        link_bytes=crossing,
        cores=_cores(record, chip),
        programs=parts,
    )


def _cores(record: OpRecord, chip: Architecture) -> int:
    """The cores of the widest shard grid among its tensors; without one, as many as there are tiles or tile rows."""
    tensors = (*record.inputs, *record.outputs)
    sharded = max((shard_cores(t) for t in tensors if not _in_dram(t)), default=0)
    if sharded:
        return sharded
    largest = max(tensors, key=_size)
    tiles = max(1, math.prod(largest.padded_shape) // TILE**2)
    if short_name(record) in BY_ROWS:
        tiles = max(1, math.prod(largest.padded_shape[:-1]) // TILE)
    return min(chip.cores, tiles)


def shard_cores(tensor: TensorSpec) -> int:
    """How many cores, or DRAM banks, a tensor is sharded over; 0 for an interleaved one."""
    ranges = re.findall(r"\((\d+),(\d+)\)-\((\d+),(\d+)\)", tensor.memory)
    return sum((int(x1) - int(x0) + 1) * (int(y1) - int(y0) + 1) for x0, y0, x1, y1 in ranges)


def _is_view(record: OpRecord) -> bool:
    """Whether a reshape leaves every row where it is."""
    return record.inputs[0].padded_shape[-1] == record.outputs[0].padded_shape[-1]


def _in_dram(tensor: TensorSpec) -> bool:
    return tensor.memory.partition(" ")[0].endswith("/DRAM")


def _size(tensor: TensorSpec) -> float:
    """Bytes that it takes, padding and all."""
    return math.prod(tensor.padded_shape) * BYTES[tensor.dtype]
