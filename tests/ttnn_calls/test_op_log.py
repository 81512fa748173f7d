"""The op log: what is logged of a call, and what is not."""

from __future__ import annotations

import pytest
import torch
import ttnn

from harness.emulator import op_names
from harness.ttnn_calls.op_log import TensorSpec, recorded


@pytest.fixture(scope="module")
def device():
    opened = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    yield opened
    ttnn.close_mesh_device(opened)


def tensor(device, *shape: int, memory_config=ttnn.DRAM_MEMORY_CONFIG):
    return ttnn.from_torch(
        torch.zeros(shape),
        dtype=ttnn.bfloat16,
        layout=ttnn.TILE_LAYOUT,
        device=device,
        memory_config=memory_config,
    )


def test_a_call_is_logged_with_its_tensors_and_keyword_tensors(device) -> None:
    """Name, then shape, padded shape, dtype, layout and memory of what went in and came out."""
    x, gamma = tensor(device, 1, 1, 40, 64), tensor(device, 1, 1, 1, 64)
    with recorded(ttnn, op_names()) as log:
        ttnn.rms_norm(x, weight=gamma)
    (record,) = log
    assert record.name == "ttnn.rms_norm"
    dram = "INTERLEAVED/DRAM"
    assert record.inputs == (
        TensorSpec((1, 1, 40, 64), (1, 1, 64, 64), "BFLOAT16", "TILE", dram),
        TensorSpec((1, 1, 1, 64), (1, 1, 32, 64), "BFLOAT16", "TILE", dram),
    )
    assert record.outputs == record.inputs[:1]


def test_shard_specs_are_part_of_it(device) -> None:
    """A sharded tensor's memory names layout, shard shape, orientation and cores."""
    cores = ttnn.num_cores_to_corerangeset(10, ttnn.CoreCoord(8, 8), True)
    sharded = ttnn.create_sharded_memory_config(
        (32, 64), cores, ttnn.ShardStrategy.WIDTH, use_height_and_width_as_shard_shape=True
    )
    with recorded(ttnn, op_names()) as log:
        tensor(device, 1, 1, 32, 640, memory_config=sharded)
    assert log[-1].outputs[0].memory == "WIDTH_SHARDED/L1 [32, 64] ROW_MAJOR (0,0)-(7,0) (0,1)-(1,1)"


def test_nothing_is_logged_of_a_refused_call_or_after_the_end(device) -> None:
    """A call that raises leaves no record, and the ops are as before once recording ends."""
    x = tensor(device, 1, 1, 32, 64)
    before = ttnn.matmul
    with recorded(ttnn, op_names()) as log, pytest.raises(RuntimeError):
        ttnn.matmul(x, x)
    assert log == []
    assert ttnn.matmul is before
    ttnn.add(x, x)
    assert log == []


def test_ops_in_submodules_and_in_lists_are_seen(device) -> None:
    """ttnn.experimental's ops are logged, and tensors in a list argument or result."""
    x = tensor(device, 1, 1, 32, 3 * 64)
    with recorded(ttnn, op_names()) as log:
        ttnn.experimental.nlp_create_qkv_heads(x, num_heads=1, num_kv_heads=1, transpose_k_heads=False)
        ttnn.concat([x, x], dim=-1)
    assert [(r.name, len(r.inputs), len(r.outputs)) for r in log] == [
        ("ttnn.experimental.nlp_create_qkv_heads", 1, 3),
        ("ttnn.concat", 2, 1),
    ]


@pytest.mark.parametrize("scale", [None, 1.0, 0.5])
def test_an_attention_whose_mask_is_divided_first_is_two_ops(device, scale) -> None:
    """ttnn runs a product on the mask wherever the scale is not 1, and leaves its result in DRAM."""
    q, mask = tensor(device, 1, 2, 64, 64), tensor(device, 1, 1, 64, 64)
    with recorded(ttnn, op_names()) as log:
        ttnn.transformer.scaled_dot_product_attention(q, q, q, attn_mask=mask, is_causal=False, scale=scale)
        ttnn.transformer.scaled_dot_product_attention(q, q, q)
    sdpa = "ttnn.transformer.scaled_dot_product_attention"
    assert [record.name for record in log] == [*["ttnn.multiply"] * (scale != 1.0), sdpa, sdpa]
    if scale != 1.0:
        assert log[0].inputs == log[0].outputs == (log[1].inputs[3],)


def test_attributes_say_how_an_op_computes_and_are_no_part_of_equality(device) -> None:
    """Fidelity, grid and blocks of the configs and plain keyword arguments, as text; two logs compare without them."""
    x, w = tensor(device, 1, 1, 64, 64), tensor(device, 1, 1, 64, 64)
    program = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(2, 2),
        in0_block_w=2,
        out_subblock_h=1,
        out_subblock_w=1,
        per_core_M=1,
        per_core_N=1,
        transpose_mcast=False,
        fuse_batch=False,
    )
    compute = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2)
    with recorded(ttnn, op_names()) as log:
        ttnn.linear(x, w, program_config=program, compute_kernel_config=compute, dtype=ttnn.bfloat16)
        ttnn.linear(x, w)
    assert log[0].attributes == {
        "program_config": "MatmulMultiCoreReuseMultiCastProgramConfig",
        "compute_with_storage_grid_size": "2x2",
        "in0_block_w": "2",
        "out_subblock_h": "1",
        "out_subblock_w": "1",
        "per_core_M": "1",
        "per_core_N": "1",
        "math_fidelity": "HiFi2",
        "fp32_dest_acc_en": "False",
        "dtype": "BFLOAT16",
    }
    assert log[1].attributes == {}
    assert log[0] == log[1]
    assert "attributes" not in log[0].to_json()
