"""A recorded call made again through the `ttnn` in place, whatever the op."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import ttnn

from harness.conformance.numerics.recordings import Step, TensorSpec
from harness.emulator import declarations
from harness.targets import active

TILE = 32
GRID = (8, 8)  # of the programs that are named to ttnn; any grid gives the same bits


class NotOffered(LookupError):
    """The ttnn in place has no such op; the message is its name."""


def offered(op: str) -> bool:
    """Whether the ttnn in place has an op of that full name, and with a Wormhole's bits: no golden stands in for those."""
    return _find(op) is not None and (active().mode is None or op in declarations())


def call(step: Step, tensors: Sequence[ttnn.Tensor]) -> tuple[ttnn.Tensor, ...]:
    """Makes the call on `tensors`, which take the place of `step.tensors` one by one; returns all its outputs.

    A linear for which the recording names the program ttnn chose is given that program: the automatic choice depends
    on the card's grid, and with it the K blocks. Raises NotOffered, or what ttnn raises.
    """
    if len(tensors) != len(step.tensors):
        raise ValueError(f"{step.point}: {step.op} takes {len(step.tensors)} tensors, got {len(tensors)}")
    function = _find(step.op)
    if function is None:
        raise NotOffered(step.op)
    operands = iter(tensors)

    def argument(value: Any) -> Any:
        return next(operands) if isinstance(value, TensorSpec) else _value(value)

    args = [argument(value) for value in step.args]
    kwargs = {key: argument(value) for key, value in step.kwargs.items()}
    if step.op == "ttnn.linear" and step.in0_block_w is not None and "program_config" not in kwargs:
        kwargs["program_config"] = linear_program(step.outputs[0].shape, step.in0_block_w)
    result = function(*args, **kwargs)
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def linear_program(shape: Sequence[int], in0_block_w: int) -> Any:
    """The 1D program, activations multicast, for an output of that shape [.., M, N] and K blocks of so many tiles."""
    rows, columns = (-(-size // TILE) for size in shape[-2:])
    return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=GRID,
        in0_block_w=in0_block_w,
        out_subblock_h=1,
        out_subblock_w=1,
        per_core_M=rows,
        per_core_N=-(-columns // math.prod(GRID)),
        fuse_batch=True,
        mcast_in0=True,
    )


def put(values: torch.Tensor, spec: TensorSpec, device: ttnn.MeshDevice) -> ttnn.Tensor:
    """`values` on the device as `spec` has it, rounded by the host where its dtype is narrower."""
    if tuple(values.shape) != spec.shape:
        raise ValueError(f"{spec.name}: {list(values.shape)} given, recorded {list(spec.shape)}")
    integers = spec.dtype in ("INT32", "UINT32")
    return ttnn.from_torch(
        values.int() if integers else values.float(),
        dtype=getattr(ttnn.DataType, spec.dtype),
        layout=getattr(ttnn.Layout, spec.layout),
        device=device,
        memory_config=_value(spec.memory_config) if spec.memory_config else ttnn.DRAM_MEMORY_CONFIG,
    )


def read(tensor: ttnn.Tensor) -> torch.Tensor:
    """A device tensor's values; floats as float32, which holds them exactly."""
    values: torch.Tensor = ttnn.to_torch(tensor)
    return values.float() if values.is_floating_point() else values


def digest(values: torch.Tensor) -> str:
    """The first 16 hex digits of the SHA-256 of the values, floats as float32: how the recording names bits it does not keep."""
    stored = values.float() if values.is_floating_point() else values
    return hashlib.sha256(stored.contiguous().numpy().tobytes()).hexdigest()[:16]


def _find(op: str) -> Callable[..., Any] | None:
    function: Any = ttnn
    for part in op.split(".")[1:]:
        function = getattr(function, part, None)
    return function if callable(function) else None


def _value(value: Any) -> Any:
    """A recorded value as ttnn takes it: "DataType.BFLOAT16" is an enum's member, a dict with "type" a config."""
    if isinstance(value, str):
        return _member(value)
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {key: item for key, item in value.items() if key != "type"}
    if value["type"] == "MemoryConfig":
        return _memory_config(**fields)
    if "math_fidelity" in fields:
        fields["math_fidelity"] = getattr(ttnn.MathFidelity, fields["math_fidelity"])
    return getattr(ttnn, value["type"])(**fields)


def _member(value: str) -> Any:
    kind, _, name = value.partition(".")
    return getattr(getattr(ttnn, kind), name)


def _memory_config(
    memory_layout: str, buffer_type: str, shard_spec: dict[str, Any] | None = None
) -> ttnn.MemoryConfig:
    shards = None
    if shard_spec is not None:
        cores = [
            ttnn.CoreRange(ttnn.CoreCoord(*low), ttnn.CoreCoord(*high)) for low, high in shard_spec["grid"]
        ]
        shards = ttnn.ShardSpec(
            ttnn.CoreRangeSet(cores), shard_spec["shape"], ttnn.ShardOrientation.ROW_MAJOR
        )
    layout = getattr(ttnn.TensorMemoryLayout, memory_layout)
    return ttnn.MemoryConfig(layout, getattr(ttnn.BufferType, buffer_type), shards)
