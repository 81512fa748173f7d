"""Matmul and linear in modes `device` and `exact`: recorded whole calls, and the K blocks of each program."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from harness.conformance.numerics.recordings import Recording, Step
from harness.emulator import api, kernels
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.accumulate import EXACT_ROWS
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.mvmul import Blocks
from harness.emulator.memory.allocator import L1_BANK_SIZE
from harness.emulator.ops.matmul.blocks import Sizes, block_tiles, blocks, fitting_core_tiles
from harness.emulator.spec.geometry import CoreCoord, CoreGrid, CoreRange, CoreRangeSet
from harness.emulator.spec.memory_config import MemoryConfig, ShardSpec
from harness.emulator.spec.types import BufferType, DataType, TensorMemoryLayout

OPS = Recording("ops")
CALLS = [step for step in OPS.steps if step.op in ("ttnn.matmul", "ttnn.linear")]
PROGRAMS = json.loads((Path(__file__).parents[2] / "data" / "matmul_programs.json").read_text())
IN_DRAM = MemoryConfig()
IN_L1 = MemoryConfig(TensorMemoryLayout.INTERLEAVED, BufferType.L1)
HIFI2 = api.WormholeComputeKernelConfig(math_fidelity=api.MathFidelity.HiFi2, packer_l1_acc=True)


def made_again(step: Step, put) -> torch.Tensor:
    """The result of a recorded matmul or linear."""
    given = [
        put(OPS.arrays[spec.name].reshape(spec.shape), dtype=DataType[spec.dtype]) for spec in step.tensors
    ]
    options = {"dtype": DataType[step.outputs[0].dtype]}
    for name in ("compute_kernel_config", "program_config"):
        if step.kwargs.get(name) is not None:
            fields = dict(step.kwargs[name])
            kind = getattr(api, fields.pop("type"))
            if "math_fidelity" in fields:
                fields["math_fidelity"] = api.MathFidelity[fields["math_fidelity"]]
            options[name] = kind(**fields)
    if step.op == "ttnn.linear":
        return api.to_torch(api.linear(*given[:2], bias=given[2], **options)).float()
    return api.to_torch(api.matmul(*given, **options)).float()


def test_every_recorded_call_is_there() -> None:
    """The recordings hold 164 matmuls and 5 linears."""
    assert len(CALLS) == 169


@pytest.mark.parametrize("step", CALLS, ids=lambda step: step.point)
def test_exact_call_equals_the_recorded(step: Step, put) -> None:
    """A whole ttnn call gives the recorded bits: formats, fidelity, Dest, K blocks, bias, special values."""
    with mode.using(Mode.EXACT):
        result = made_again(step, put)
    expected = OPS.arrays[step.outputs[0].name].reshape(result.shape)
    assert torch.equal(result.view(torch.int32), expected.float().view(torch.int32))


@pytest.mark.parametrize("row", PROGRAMS, ids=str)
def test_block_width_of_the_automatic_program(row: list) -> None:
    """Without a program config K is cut as the program cuts it that ttnn 0.81.1 built for the same call on 8x8 cores."""
    a, b, options, expected = row
    memory = IN_L1 if options.get("a_in_l1") else IN_DRAM
    if "a_sharded" in options:
        layout, (columns, rows), shape = options["a_sharded"]
        cores = CoreRangeSet([CoreRange((0, 0), (columns - 1, rows - 1))])
        memory = MemoryConfig(TensorMemoryLayout[layout], BufferType.L1, ShardSpec(cores, shape))
    grid = options.get("core_grid")
    core_grid = CoreGrid(x=grid[0], y=grid[1]) if grid else None
    out = IN_L1 if options.get("out_in_l1") else IN_DRAM
    sizes = Sizes(math.prod(a[:-2]), math.prod(b[:-2]), *(-(-side // 32) for side in (a[-2], a[-1], b[-1])))
    room = L1_BANK_SIZE - (-(-math.prod(a[:-2]) * sizes.m * sizes.k // 64) * 2048 if memory is IN_L1 else 0)
    share = fitting_core_tiles(DataType.BFLOAT16, DataType.BFLOAT16, DataType.BFLOAT16, HIFI2, room)
    assert block_tiles(None, core_grid, sizes, memory, IN_DRAM, out, CoreCoord(8, 8), share) == expected


def test_partial_sums_have_the_format_of_the_config() -> None:
    """fp32 with an fp32 Dest, else bf16 where L1 accumulation is active, else the output's; numerics.md, 'Between K blocks'."""
    fp32 = api.WormholeComputeKernelConfig(fp32_dest_acc_en=True)
    out = DataType.BFLOAT8_B
    assert blocks(2, 8, fp32, out, bias=False) == Blocks(64, DataType.FLOAT32)
    assert blocks(2, 8, HIFI2, out, bias=False) == Blocks(64, DataType.BFLOAT16, l1_acc=True)
    assert blocks(4, 8, HIFI2, out, bias=False) == Blocks(128, out)  # two blocks are not accumulated in L1,
    assert blocks(4, 8, HIFI2, out, bias=True) == Blocks(
        128, DataType.BFLOAT16, l1_acc=True, bias=True
    )  # but for a bias
    assert blocks(None, 8, HIFI2, out, bias=False) == Blocks(256, out)


def test_block_width_of_a_program_config_decides_values(put) -> None:
    """With a bf16 Dest and L1 accumulation, blocks of 1 and of 8 tiles give different bits, and none but Dest's precision."""
    a, b = put(torch.randn(32, 256)), put(torch.randn(256, 64))
    results = []
    for width in (1, 8):
        program = api.MatmulMultiCoreReuseMultiCast1DProgramConfig(
            compute_with_storage_grid_size=(1, 1),
            in0_block_w=width,
            out_subblock_h=1,
            out_subblock_w=2,
            per_core_M=1,
            per_core_N=2,
            fuse_batch=True,
            mcast_in0=True,
        )
        with mode.using(Mode.EXACT):
            product = api.matmul(a, b, program_config=program, compute_kernel_config=HIFI2)
        results.append(api.to_torch(product).float())
    assert not torch.equal(*results)
    assert (results[0] - results[1]).norm() < 0.02 * results[0].norm()


@pytest.mark.parametrize("arithmetic", [Mode.DEVICE, Mode.EXACT])
def test_shapes_and_transposes_are_those_of_mode_fast(put, arithmetic: Mode) -> None:
    """Vectors, batches, transposed operands and optional outputs give mode fast's result but for accumulation."""
    cases = [
        ((64,), (64, 96), {}),
        ((2, 3, 32, 64), (2, 3, 64, 32), {}),
        ((2, 3, 40, 64), (64, 50), {}),
        ((2, 64, 40), (1, 1, 50, 64), {"transpose_a": True, "transpose_b": True}),
    ]
    for shape_a, shape_b, options in cases:
        a, b = put(torch.randn(shape_a)), put(torch.randn(shape_b))
        fast = api.to_torch(api.matmul(a, b, **options))
        with mode.using(arithmetic):
            modelled = api.to_torch(api.matmul(a, b, **options))
        assert modelled.shape == fast.shape
        assert torch.allclose(modelled, fast, rtol=0.03, atol=0.3)


@pytest.mark.parametrize("arithmetic", [Mode.DEVICE, Mode.EXACT])
def test_a_rewritten_weight_is_prepared_anew(put, arithmetic: Mode) -> None:
    """The prepared weight is kept until its tensor is written."""
    a, weight = put(torch.eye(32)), put(torch.ones(32, 32))
    with mode.using(arithmetic):
        api.matmul(a, weight)
        host = api.from_torch(torch.full((32, 32), 3.0), dtype=api.bfloat16, layout=api.TILE_LAYOUT)
        api.copy_host_to_device_tensor(host, weight)
        assert api.to_torch(api.matmul(a, weight)).unique().tolist() == [3.0]


@pytest.mark.parametrize("fp32_dest", [True, False], ids=["fp32", "bf16"])
@pytest.mark.parametrize("more", [0, 1], ids=["short", "long"])
def test_device_sums_long_linears_loosely(more: int, fp32_dest: bool, put) -> None:
    """Up to EXACT_ROWS rows mode device has exact's bits, of a row more it has not."""
    if kernels.load() is None:
        pytest.skip("no C++ compiler: torch sums all of mode device loosely")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, EXACT_ROWS + more, 256, generator=generator)
    w = torch.randn(1, 1, 256, 64, generator=generator)
    config = api.WormholeComputeKernelConfig(
        math_fidelity=api.MathFidelity.HiFi4, fp32_dest_acc_en=fp32_dest, packer_l1_acc=True
    )
    results = []
    for arithmetic in (Mode.EXACT, Mode.DEVICE):
        with mode.using(arithmetic):
            y = api.linear(put(x), put(w), dtype=DataType.FLOAT32, compute_kernel_config=config)
        results.append(api.to_torch(y))
    assert torch.equal(*results) == (not more)
    bound = 0.02 if fp32_dest else 0.3  # of a group of products, and of a 16-bit Dest
    assert torch.allclose(*results, rtol=bound, atol=bound)
