"""`ttnn.matmul` and `ttnn.linear`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.emulator.arithmetic import accumulate, fidelity, formats, fpu, products
from harness.emulator.arithmetic.mode import Mode, current
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.errors import refuse
from harness.emulator.ops.eltwise.binary import add
from harness.emulator.ops.eltwise.unary import activated, activation_function, activation_name, function_name
from harness.emulator.ops.matmul import zero_parts
from harness.emulator.ops.matmul.blocks import Sizes, block_tiles, blocks, check_reuse, fitting_core_tiles
from harness.emulator.ops.matmul.programs import check_program, output_shard_spec
from harness.emulator.ops.matmul.shapes import FLOATS, biased_shape, fuses, product_shape
from harness.emulator.ops.movement.movement import reshaped
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Compute, Tensor, device_of, require_device
from harness.emulator.spec.geometry import CoreGrid, Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.program_configs import UnaryWithParam, WormholeComputeKernelConfig
from harness.emulator.spec.types import BufferType, DataType, Layout, MathFidelity, UnaryOpType

_BLOCK_FLOATS = (DataType.BFLOAT8_B, DataType.BFLOAT4_B)
_NOTHING = torch.empty(0, dtype=torch.bfloat16)
# What an op without a compute kernel config gets (numerics.md, "Between K blocks").
_LOFI = WormholeComputeKernelConfig(math_fidelity=MathFidelity.LoFi, packer_l1_acc=True)
_HIFI2 = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi2, packer_l1_acc=True)
_HIFI4 = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi4, packer_l1_acc=True)
_HIFI2_FP32 = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi2, fp32_dest_acc_en=True)
_HIFI4_FP32 = WormholeComputeKernelConfig(math_fidelity=MathFidelity.HiFi4, fp32_dest_acc_en=True)


@dataclass(slots=True)
class _Call:
    """A call of `matmul` or `linear`: their arguments."""

    name: str
    a: Tensor
    b: Tensor
    bias: Tensor | None
    transpose_a: bool
    transpose_b: bool
    memory_config: MemoryConfig | None
    dtype: DataType | None
    program_config: Any
    activation: str | UnaryWithParam | UnaryOpType | None
    config: WormholeComputeKernelConfig | None
    core_grid: CoreGrid | None
    out: Tensor | None

    @property
    def out_dtype(self) -> DataType:
        return self.dtype or self.a.dtype

    @property
    def memory(self) -> MemoryConfig | None:
        """Where the result is asked for."""
        return self.memory_config or (self.out.config if self.out is not None else None)

    @property
    def placed(self) -> bool:
        """Whether the call says on which cores it runs. Else ttnn does, and runs an activation as an op of its own."""
        return self.program_config is not None or self.core_grid is not None


@op("ttnn.matmul", asks_for_l1=True)
def matmul(
    input_tensor_a: Tensor,
    input_tensor_b: Tensor,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    memory_config: MemoryConfig | None = None,
    dtype: DataType | None = None,
    program_config: Any = None,
    activation: str | UnaryWithParam | UnaryOpType | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    core_grid: CoreGrid | None = None,
    optional_output_tensor: Tensor | None = None,
) -> Tensor:
    """[..., M, K] x [..., K, N] -> [..., M, N]; the batch dims are equal, or all 1 in one. dtype defaults to a's.

    A vector a [K] is one row, a vector b [K] one column; the result lacks that dimension.
    """
    return _matmul(
        _Call(
            name="ttnn.matmul",
            a=input_tensor_a,
            b=input_tensor_b,
            bias=None,
            transpose_a=transpose_a,
            transpose_b=transpose_b,
            memory_config=memory_config,
            dtype=dtype,
            program_config=program_config,
            activation=activation,
            config=compute_kernel_config,
            core_grid=core_grid,
            out=optional_output_tensor,
        )
    )


@op("ttnn.linear", asks_for_l1=True)
def linear(
    input_tensor_a: Tensor,
    input_tensor_b: Tensor,
    *,
    bias: Tensor | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    memory_config: MemoryConfig | None = None,
    dtype: DataType | None = None,
    program_config: Any = None,
    activation: str | UnaryWithParam | UnaryOpType | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    core_grid: CoreGrid | None = None,
    optional_output_tensor: Tensor | None = None,
) -> Tensor:
    """`matmul` plus a bias and an activation. Product and bias broadcast."""
    return _matmul(
        _Call(
            name="ttnn.linear",
            a=input_tensor_a,
            b=input_tensor_b,
            bias=bias,
            transpose_a=transpose_a,
            transpose_b=transpose_b,
            memory_config=memory_config,
            dtype=dtype,
            program_config=program_config,
            activation=activation,
            config=compute_kernel_config,
            core_grid=core_grid,
            out=optional_output_tensor,
        )
    )


def _matmul(call: _Call) -> Tensor:
    name, a, bias, dtype = call.name, call.a, call.bias, call.out_dtype
    require_device(name, a, call.b)
    if not a.shape or not call.b.shape:
        refuse(name, f"both tensors need a dimension at least, got {list(a.shape)} and {list(call.b.shape)}")
    vector = len(call.b.shape) == 1
    if vector:
        call = replace(call, b=reshaped(name, call.b, (call.b.shape[0], 1)))
    b = call.b
    config = call.config or default_config(a, b, dtype, not call.placed)
    shape = product_shape(name, a, b, call.transpose_a, call.transpose_b)
    if dtype not in FLOATS:
        refuse(name, f"the emulator does not model a result of {dtype}; typecast a floating point one")
    whole = Shape(shape[:-1]) if vector else shape
    if bias is not None:
        whole = biased_shape(name, bias, whole)
        if vector or not fuses(name, bias, shape, b):
            return _then_biased(replace(call, config=config), bias, shape[:-1] if vector else None)
    memory = call.memory or DRAM_MEMORY_CONFIG
    device = device_of(a)
    activation = call.activation
    if call.program_config is not None:
        check_program(name, call.program_config, a, b, shape, config, device)
        activation = activation or getattr(call.program_config, "fused_activation", None)
    if memory.sharded and memory.shard_spec is None:
        memory = output_shard_spec(name, memory, shape, call.program_config, a, device)
    transposed = call.transpose_a, call.transpose_b
    sizes = Sizes.of(a, b, *transposed)
    room = device.allocator.usage(BufferType.L1).largest_free
    share = fitting_core_tiles(a.dtype, b.dtype, dtype, config, room)
    if call.program_config is None:
        check_reuse(name, sizes, a.config, b.config, memory, call.core_grid, share)
    shards: Compute
    if current() is Mode.FAST:
        apply = activation_function(name, activation_name(activation)) if activation is not None else None
        shards = functools.partial(_fast, a, b, bias, *transposed, apply, config, dtype)
    else:
        grid = device.compute_with_storage_grid_size()
        width = block_tiles(
            call.program_config, call.core_grid, sizes, a.config, b.config, memory, grid, share
        )
        k_blocks = blocks(width, sizes.k, config, dtype, bias is not None)
        function = function_name(name, activation) if activation is not None else None
        last = _Last(bias, function, call.placed, dtype, config.fp32_dest_acc_en)
        shards = functools.partial(_modelled, a, b, *transposed, config, k_blocks, last)
    compute = functools.partial(_as_shape, shards, whole)
    if call.out is not None:
        return _write_output(name, call.out, compute, whole, dtype)
    return make_tensor(name, compute, whole, dtype, Layout.TILE, memory, device)


def _then_biased(call: _Call, bias: Tensor, shape: Sequence[int] | None) -> Tensor:
    """The product, in `shape` if given, then bias and activation as ops of their own."""
    product = _matmul(replace(call, bias=None, memory_config=call.memory, activation=None, out=None))
    if shape is not None:
        product = reshaped(call.name, product, shape)
    if call.activation is None:
        return add(product, bias, output_tensor=call.out)
    return activated(call.name, add(product, bias), call.activation, call.out)


def _as_shape(shards: Compute, shape: Shape) -> list[torch.Tensor]:
    return [s.reshape(shape) for s in shards()]


@dataclass(frozen=True)
class _Last:
    """What happens to a sum after its last K block."""

    bias: Tensor | None
    activation: str | None
    in_dest: bool  # the activation works on Dest, before the pack, not on the packed result
    dtype: DataType
    fp32_dest: bool

    def __call__(self, dest: torch.Tensor, index: int) -> torch.Tensor:
        if self.bias is not None:  # the packed partial sum is unpacked to SrcA, so TF32 at most
            dest = fpu.add(
                fidelity.source(dest, self.fp32_dest), self.bias.shards[index], fp32_dest=self.fp32_dest
            )
        if self.activation is None:
            return formats.pack_round(dest, self.dtype)
        if self.in_dest:
            return formats.pack_round(sfpu.apply(self.activation, dest, fp32_dest=self.fp32_dest), self.dtype)
        result = formats.pack_round(dest, self.dtype)
        wide = self.dtype is DataType.FLOAT32
        return formats.pack_round(sfpu.apply(self.activation, result, fp32_dest=wide), self.dtype)


def _modelled(
    a: Tensor,
    b: Tensor,
    transpose_a: bool,
    transpose_b: bool,
    config: WormholeComputeKernelConfig,
    k_blocks: Blocks,
    last: _Last,
) -> list[torch.Tensor]:
    """Modes `device` and `exact`: by the accumulation model. The weight's form for it stays cached on its tensor."""
    math = fidelity.Math(config.math_fidelity, config.fp32_dest_acc_en)
    key = ("prepared", transpose_b, math.fp32_dest and b.dtype is DataType.FLOAT32)

    def prepare() -> list[accumulate.Prepared]:
        unpacked = (formats.unpack(w, b.dtype, fp32_dest=math.fp32_dest) for w in b.shards)
        matrices = (_as_matrix(w.transpose(-1, -2).contiguous() if transpose_b else w) for w in unpacked)
        return [accumulate.prepare(place.part(w), math) for w, place in zip(matrices, places, strict=True)]

    places, columns = _filled(b, transpose_b, rows=False), b.shape[-2 if transpose_b else -1]
    weights: list[accumulate.Prepared] = b.derived(key, prepare)
    shards = []
    for index, (x, w) in enumerate(zip(a.shards, weights, strict=True)):
        x = formats.unpack(x, a.dtype, fp32_dest=math.fp32_dest)
        x = x.transpose(-1, -2) if transpose_a else x
        rows = x if x.dim() > 1 else x.unsqueeze(0)
        if w.values.dim() > 2 and rows.shape[:-2] != w.values.shape[:-2]:  # one a for all batches of b
            rows = rows.expand(*w.values.shape[:-2], *rows.shape[-2:])
        if w.values.numel():
            loose = rows.shape[:-1].numel() > accumulate.EXACT_ROWS
            dest = places[index].spread(accumulate.matmul(rows, w, math, k_blocks, loose=loose), columns)
        else:  # a weight of zeros throughout
            dest = torch.zeros(*rows.shape[:-1], columns)
        shards.append(last(dest if x.dim() > 1 else dest.squeeze(0), index))
    return shards


def _fast(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    transpose_a: bool,
    transpose_b: bool,
    apply: Callable[[torch.Tensor], torch.Tensor] | None,
    config: WormholeComputeKernelConfig,
    dtype: DataType,
) -> list[torch.Tensor]:
    """Mode `fast`: truncated operands, one float32 accumulation on the CPU's matrix units, and the result's rounding.

    `apply`: the fused activation.
    """
    numbers = numbers_of(a, b, config, dtype)
    # The rows too: where the CPU rounds its sums depends on how many there are.
    places, columns = _filled(b, transpose_b, rows=True), b.shape[-2 if transpose_b else -1]
    shards: list[torch.Tensor] = []
    zeros = None  # of weights without a value: one tensor, so that what follows knows these devices as alike
    operands = _operands(a, b, config, transpose_a, transpose_b, numbers, places)
    for index, (x, w) in enumerate(zip(*operands, strict=True)):
        if zeros is not None and not w.numel():
            shards.append(zeros)
            continue
        y = products.multiply(x, w, numbers)
        y = places[index].spread(y, columns)
        if bias is not None:
            y = y + bias.shards[index]
        if apply is not None:
            y = apply(y.float())
        shards.append(packed(y, dtype))
        if bias is None and not w.numel():
            zeros = shards[-1]
    return shards


def default_config(a: Tensor, b: Tensor, out: DataType, automatic: bool) -> WormholeComputeKernelConfig:
    """What ttnn computes with when no config is given; `automatic`: it chooses the program too."""
    fp32 = out is DataType.FLOAT32
    if a.dtype is DataType.FLOAT32 or b.dtype is DataType.FLOAT32:
        return _HIFI4_FP32 if fp32 else _HIFI4
    if automatic and not (a.dtype in _BLOCK_FLOATS and b.dtype in _BLOCK_FLOATS):
        return _HIFI2_FP32 if fp32 else _HIFI2
    return _LOFI


def numbers_of(a: Tensor, b: Tensor, config: WormholeComputeKernelConfig, out: DataType) -> products.Numbers:
    """In what mode `fast` multiplies."""
    if config.fp32_dest_acc_en and DataType.FLOAT32 in (a.dtype, b.dtype):
        return products.Numbers.TF32
    wide = config.fp32_dest_acc_en and out is DataType.FLOAT32
    return products.Numbers.WIDE if wide else products.Numbers.BFLOAT16


def _operands(
    a: Tensor,
    b: Tensor,
    config: WormholeComputeKernelConfig,
    transpose_a: bool,
    transpose_b: bool,
    numbers: products.Numbers,
    places: list[zero_parts.Filled],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Both operands as the matrix unit reads them, in the form that is multiplied; each stays cached on its tensor until
    that is written."""
    math, fp32_dest = config.math_fidelity, config.fp32_dest_acc_en

    def activation() -> list[torch.Tensor]:
        forms = {
            id(x): products.form(fidelity.matmul_operands(x, _NOTHING, math, fp32_dest=fp32_dest)[0], numbers)
            for x in a.shards  # a replicated activation is one shard on every device
        }
        return [forms[id(x)].transpose(-1, -2) if transpose_a else forms[id(x)] for x in a.shards]

    def weight() -> list[torch.Tensor]:
        cut = [fidelity.matmul_operands(_NOTHING, w, math, fp32_dest=fp32_dest)[1] for w in b.shards]
        matrices = [_as_matrix(w.transpose(-1, -2) if transpose_b else w) for w in cut]
        matrices = [place.part(w) for w, place in zip(matrices, places, strict=True)]
        return [products.form(w, numbers, weight=True) for w in matrices]

    in0: list[torch.Tensor] = a.derived(("in0", math, fp32_dest, transpose_a, numbers), activation)
    in1: list[torch.Tensor] = b.derived(("in1", math, fp32_dest, transpose_b, numbers), weight)
    return zero_parts.taken(in0, places), in1


def _filled(b: Tensor, transposed: bool, rows: bool) -> list[zero_parts.Filled]:
    def places() -> list[zero_parts.Filled]:
        return zero_parts.filled(
            [_as_matrix(w.transpose(-1, -2) if transposed else w) for w in b.shards], rows
        )

    parts: list[zero_parts.Filled] = b.derived(("filled", transposed, rows), places)
    return parts


def _as_matrix(w: torch.Tensor) -> torch.Tensor:
    """A weight without batch as a matrix: torch then runs one large product, not one per batch."""
    return w.reshape(w.shape[-2:]) if w.dim() > 2 and w.numel() == w.shape[-1] * w.shape[-2] else w


def _write_output(name: str, out: Tensor, shards: Compute, shape: Shape, dtype: DataType) -> Tensor:
    require_device(name, out)
    if out.shape != shape or out.dtype is not dtype:
        refuse(
            name, f"optional_output_tensor is {out.dtype} {list(out.shape)}, the result {dtype} {list(shape)}"
        )

    def copy() -> None:
        for mine, new in zip(out.shards, shards(), strict=True):
            mine.copy_(new)

    return write(name, out, copy)
