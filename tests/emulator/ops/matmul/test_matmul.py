from __future__ import annotations

import pytest
import torch

from harness.emulator import DeviceError

BF16_HALF_ULP = 2.0**-8  # relative


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def test_matmul_equals_float64_to_bf16_rounding(ttnn, put, exact_config):
    """A bf16 product at HiFi4 differs from float64 by the rounding of the result only."""
    a, b = torch.randn(1, 1, 64, 576).bfloat16(), torch.randn(1, 1, 576, 96).bfloat16()
    out = ttnn.to_torch(ttnn.matmul(put(a), put(b), compute_kernel_config=exact_config))
    assert relative(out, a.double() @ b.double()) < BF16_HALF_ULP / 2


def test_fp32_result_keeps_float32_precision(ttnn, put, exact_config):
    """dtype=float32 with a float32 destination keeps the sum to float32 precision."""
    a, b = torch.randn(1, 1, 32, 1536).bfloat16(), torch.randn(1, 1, 1536, 64).bfloat16()
    out = ttnn.matmul(put(a), put(b), dtype=ttnn.float32, compute_kernel_config=exact_config)
    assert out.dtype is ttnn.float32
    assert relative(ttnn.to_torch(out), a.double() @ b.double()) < 1e-6


def test_fp32_result_of_a_bf16_destination_has_bf16_precision(ttnn, put):
    """dtype=float32 cannot bring back what a bf16 destination lost."""
    a, b = torch.randn(32, 64), torch.randn(64, 32)
    config = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi4)
    out = ttnn.to_torch(ttnn.matmul(put(a), put(b), dtype=ttnn.float32, compute_kernel_config=config))
    assert torch.equal(out, out.bfloat16().float())


@pytest.mark.parametrize(
    ("fidelity", "in0_bits", "in1_bits"), [("LoFi", 7, 5), ("HiFi2", 7, 8), ("HiFi4", 8, 8)]
)
def test_fidelity_truncates_operands(ttnn, put, fidelity, in0_bits, in1_bits):
    """An operand keeps the significant bits its fidelity multiplies, seen one product at a time."""
    value = 1 + 127 / 128  # all eight bits set

    def cut(bits):
        return 2 - 2.0 ** (1 - bits)

    a = torch.zeros(32, 32)
    a[0, 0] = value
    eye = torch.eye(32)
    config = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity[fidelity])
    left = ttnn.to_torch(ttnn.matmul(put(a), put(eye), compute_kernel_config=config))[0, 0]
    right = ttnn.to_torch(ttnn.matmul(put(eye), put(a), compute_kernel_config=config))[0, 0]
    assert (float(left), float(right)) == (cut(in0_bits), cut(in1_bits))


def test_linear_adds_bias_then_activates(ttnn, put, exact_config):
    """`linear` is silu(a @ b + bias)."""
    a, b, bias = torch.randn(1, 1, 32, 64), torch.randn(1, 1, 64, 96) / 8, torch.randn(1, 1, 1, 96)
    out = ttnn.linear(put(a), put(b), bias=put(bias), activation="silu", compute_kernel_config=exact_config)
    expected = torch.nn.functional.silu(
        a.bfloat16().double() @ b.bfloat16().double() + bias.bfloat16().double()
    )
    assert relative(ttnn.to_torch(out), expected) < 2 * BF16_HALF_ULP


def test_transposed_and_broadcast_operands(ttnn, put, exact_config):
    """transpose_b swaps the weight's last dims, and a weight without batch serves every batch of a."""
    a, b = torch.randn(2, 3, 32, 64).bfloat16(), torch.randn(1, 1, 96, 64).bfloat16()
    out = ttnn.to_torch(ttnn.matmul(put(a), put(b), transpose_b=True, compute_kernel_config=exact_config))
    assert relative(out, a.double() @ b.double().transpose(-1, -2)) < BF16_HALF_ULP / 2


def test_a_written_weight_is_not_read_from_the_cache(ttnn, put, exact_config):
    """Overwriting a weight in place changes the next product."""
    a, weight = put(torch.eye(32)), put(torch.ones(32, 32))
    ttnn.matmul(a, weight, compute_kernel_config=exact_config)
    host = ttnn.from_torch(torch.full((32, 32), 3.0), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT)
    ttnn.copy_host_to_device_tensor(host, weight)
    out = ttnn.to_torch(ttnn.matmul(a, weight, compute_kernel_config=exact_config))
    assert torch.equal(out, torch.full((32, 32), 3.0).bfloat16())


def test_reading_leaves_the_global_torch_precision_alone(ttnn, put, exact_config):
    """The float32 path switches torch to bf16 products for its own call only."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    ttnn.matmul(
        put(torch.eye(32)), put(torch.eye(32)), dtype=ttnn.float32, compute_kernel_config=exact_config
    )
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in0_block_w": 7}, r"Kt \(18\) must be divisible by in0_block_w \(7\)"),
        ({"compute_with_storage_grid_size": (4, 4)}, "30 blocks > 16 cores"),
        ({"compute_with_storage_grid_size": (13, 4)}, "must fit within device grid"),
        ({"per_core_N": 16, "out_subblock_w": 16}, "needs to be at most 8"),
        (
            {"per_core_N": 3, "out_subblock_w": 2},
            r"out_block_w \(3\) must be divisible by out_subblock_w \(2\)",
        ),
    ],
)
def test_program_configs_ttnn_refuses_are_refused(ttnn, put, change, message):
    """A program config that does not fit the shapes or the grid is refused in one line that names the op."""
    fields = {
        "compute_with_storage_grid_size": (8, 4),
        "in0_block_w": 2,
        "out_subblock_h": 1,
        "out_subblock_w": 1,
        "per_core_M": 1,
        "per_core_N": 1,
        "fuse_batch": True,
        "mcast_in0": True,
    }
    a, b = put(torch.zeros(1, 1, 32, 576)), put(torch.zeros(1, 1, 576, 960))
    ttnn.matmul(a, b, program_config=ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(**fields))
    with pytest.raises(DeviceError, match=message) as caught:
        ttnn.matmul(a, b, program_config=ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(**fields | change))
    assert str(caught.value).startswith("ttnn.matmul: ")
    assert "\n" not in str(caught.value)


def test_bad_operands_are_refused(ttnn, put):
    """Wrong K, layout, dtype or place of an operand is one clear line."""
    a = put(torch.zeros(32, 64))
    cases = [
        (put(torch.zeros(32, 64)), "has 64 and 32"),
        (put(torch.zeros(64, 32), layout=ttnn.ROW_MAJOR_LAYOUT), "TILE layout"),
        (put(torch.zeros(64, 32), ttnn.int32), "floating point"),
        (ttnn.from_torch(torch.zeros(64, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT), "on the host"),
    ]
    for b, message in cases:
        with pytest.raises(DeviceError, match=message):
            ttnn.matmul(a, b)


def test_unknown_keyword_names_op_and_keyword(ttnn, put):
    """A keyword ttnn does not know is a TypeError that names the op and the keyword."""
    a = put(torch.zeros(32, 32))
    with pytest.raises(TypeError, match=r"^ttnn\.matmul: unexpected argument 'use_multicore'; ttnn takes"):
        ttnn.matmul(a, a, use_multicore=True)
