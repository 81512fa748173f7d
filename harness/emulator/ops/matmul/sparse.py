"""`ttnn.sparse_matmul`: the products of a mixture of experts, of which a mask says which are computed."""

from __future__ import annotations

import math
from typing import Any

import torch

from harness.emulator.arithmetic import accumulate, fidelity, formats, products
from harness.emulator.arithmetic.mode import Mode, current
from harness.emulator.errors import refuse
from harness.emulator.ops.matmul.blocks import blocks
from harness.emulator.ops.matmul.matmul import default_config, numbers_of
from harness.emulator.ops.matmul.shapes import FLOATS
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of, require_device
from harness.emulator.spec.geometry import Shape, round_up
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.program_configs import (
    MatmulMultiCoreReuseMultiCast1DProgramConfig,
    WormholeComputeKernelConfig,
)
from harness.emulator.spec.types import TILE_SIZE, DataType, Layout

_NAME = "ttnn.sparse_matmul"


@op(_NAME)
def sparse_matmul(
    input_tensor_a: Tensor,
    input_tensor_b: Tensor,
    *,
    sparsity: Tensor,
    program_config: Any,
    nnz: int | None = None,
    is_input_a_sparse: bool = False,
    is_input_b_sparse: bool = True,
    memory_config: MemoryConfig | None = None,
    dtype: DataType | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
) -> Tensor:
    """Products of matrices of a with those of b where `sparsity` is not 0, elsewhere zeros; one entry of it a product.

    b sparse: each of a [*A, M, K] with each of b [*B, K, N] gives [*A, *B, M, N]. a sparse too: each with its own, [*B, M, N].
    a alone: a [*A, E, M, K] with b [.., E, K, N] gives [*A, E, M, N]. Raises DeviceError where `nnz` is not the number of
    entries that are not 0: a card hangs.
    """
    a, b = input_tensor_a, input_tensor_b
    require_device(_NAME, a, b, sparsity)
    _check(a, b, sparsity, program_config)
    if not (is_input_a_sparse or is_input_b_sparse):
        refuse(_NAME, "is_input_a_sparse or is_input_b_sparse must be true")
    rows, experts = math.prod(a.shape[:-2]), math.prod(b.shape[:-2])
    if is_input_a_sparse and is_input_b_sparse and rows != experts:
        refuse(_NAME, f"both sparse, a of {rows} matrices and b of {experts} must have as many")
    if is_input_a_sparse and rows % experts:
        refuse(_NAME, f"a of {rows} matrices does not divide by b's {experts}")
    if is_input_a_sparse:
        pairs = [(row, row % experts) for row in range(rows)]
        batch = tuple(b.shape[:-2] if is_input_b_sparse else a.shape[:-2])
    else:
        pairs = [(row, expert) for row in range(rows) for expert in range(experts)]
        batch = (*a.shape[:-2], *b.shape[:-2])
    if sparsity.volume() != len(pairs):
        refuse(_NAME, f"sparsity has {sparsity.volume()} entries, {len(pairs)} products need one each")
    if nnz is not None and nnz < 1:
        refuse(_NAME, f"nnz must be at least 1, got {nnz}")
    result = dtype or a.dtype
    if result not in FLOATS:
        refuse(_NAME, f"the emulator does not model a result of {result}")
    config = compute_kernel_config or default_config(a, b, result, False)
    shape = Shape((*batch, a.shape[-2], b.shape[-1]))
    width, depth = program_config.in0_block_w, round_up(a.shape[-1]) // TILE_SIZE
    k_blocks = blocks(width, depth, config, result, False)
    fidelities = fidelity.Math(config.math_fidelity, config.fp32_dest_acc_en)

    def prepared(device: int, expert: int) -> accumulate.Prepared:
        weight = formats.unpack(b.shards[device], b.dtype, fp32_dest=fidelities.fp32_dest)
        return accumulate.prepare(weight.reshape(-1, *weight.shape[-2:])[expert], fidelities)

    def product(device: int, x: torch.Tensor, expert: int) -> torch.Tensor:
        if current() is Mode.FAST:
            w = b.shards[device].reshape(-1, *b.shape[-2:])[expert]
            left, right = fidelity.matmul_operands(
                x, w, config.math_fidelity, fp32_dest=config.fp32_dest_acc_en
            )
            numbers = numbers_of(a, b, config, result)
            left, right = products.form(left, numbers), products.form(right, numbers, weight=True)
            return packed(products.multiply(left, right, numbers), result)
        key = ("expert", device, expert, fidelities, b.dtype)
        weight = b.derived(key, lambda: prepared(device, expert))
        x = formats.unpack(x, a.dtype, fp32_dest=fidelities.fp32_dest)
        loose = x.shape[0] > accumulate.EXACT_ROWS
        return formats.pack_round(accumulate.matmul(x, weight, fidelities, k_blocks, loose=loose), result)

    def on(device: int) -> torch.Tensor:
        mask = (sparsity.shards[device].flatten() != 0).tolist()
        if nnz is not None and nnz != sum(mask):
            refuse(_NAME, f"nnz is {nnz}, sparsity has {sum(mask)} entries that are not 0")
        matrices = a.shards[device].reshape(-1, *a.shape[-2:])
        products = torch.zeros(len(pairs), *shape[-2:], dtype=formats.storage_dtype(result))
        for place, (row, expert) in enumerate(pairs):
            if mask[place]:
                products[place] = product(device, matrices[row], expert)
        return products.reshape(tuple(shape))

    def shards() -> list[torch.Tensor]:
        return [on(device) for device in range(len(a.shards))]

    return make_tensor(
        _NAME, shards, shape, result, Layout.TILE, memory_config or DRAM_MEMORY_CONFIG, device_of(a)
    )


def _check(a: Tensor, b: Tensor, sparsity: Tensor, program: Any) -> None:
    if not isinstance(program, MatmulMultiCoreReuseMultiCast1DProgramConfig):
        refuse(
            _NAME,
            f"program_config must be a MatmulMultiCoreReuseMultiCast1DProgramConfig, got {type(program).__name__}",
        )
    if not program.mcast_in0:
        refuse(_NAME, "program_config must have mcast_in0=True")
    if program.fused_activation is not None:
        refuse(_NAME, "the emulator does not model a fused activation")
    for x in (a, b):
        if x.layout is not Layout.TILE or x.dtype not in FLOATS:
            refuse(_NAME, f"operands must be floating point in TILE, got {x!r}")
        if x.config.sharded:
            refuse(_NAME, "the emulator does not model a sharded operand")
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        refuse(
            _NAME, f"the last dimension of a {list(a.shape)} must be the last but one of b {list(b.shape)}"
        )
    if sparsity.layout is not Layout.ROW_MAJOR:
        refuse(_NAME, f"sparsity must be ROW_MAJOR, got {sparsity.layout}")
    if (round_up(a.shape[-1]) // TILE_SIZE) % program.in0_block_w:
        refuse(
            _NAME, f"in0_block_w {program.in0_block_w} does not divide the tiles along K of {list(a.shape)}"
        )
