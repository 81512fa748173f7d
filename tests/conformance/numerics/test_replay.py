"""A recorded call, whatever its op, becomes a call of the ttnn in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from harness.conformance.numerics.recordings import Step, TensorSpec
from harness.conformance.numerics.replay import NotOffered, call, digest, linear_program, offered, put, read

COMPUTE = {
    "type": "WormholeComputeKernelConfig",
    "math_fidelity": "HiFi4",
    "math_approx_mode": False,
    "fp32_dest_acc_en": True,
    "packer_l1_acc": True,
}
SHARDED = {
    "type": "MemoryConfig",
    "memory_layout": "HEIGHT_SHARDED",
    "buffer_type": "L1",
    "shard_spec": {"grid": [[[0, 0], [7, 3]]], "shape": [32, 64]},
}


def tensor(*shape: int, dtype: str = "BFLOAT16", memory: dict[str, Any] | None = None) -> TensorSpec:
    return TensorSpec("x", dtype, "TILE", shape, memory)


def test_put_and_read_round_as_the_host_does(device: ttnn.MeshDevice) -> None:
    """A value goes to the device in the recorded dtype, rounded half to even, and comes back exactly."""
    values = torch.full((32, 32), 1 + 2.0**-8)
    assert read(put(values, tensor(32, 32), device)).unique().tolist() == [1.0]


def test_put_lays_shards_as_recorded(device: ttnn.MeshDevice) -> None:
    """A recorded memory config with shards is the one the tensor gets."""
    placed = put(torch.zeros(1, 32, 9, 64), tensor(1, 32, 9, 64, memory=SHARDED), device)
    config = placed.memory_config()
    assert config.memory_layout == ttnn.TensorMemoryLayout.HEIGHT_SHARDED
    assert list(config.shard_spec.shape) == [32, 64]
    assert config.shard_spec.grid.num_cores() == 32


def test_put_refuses_another_shape(device: ttnn.MeshDevice) -> None:
    """What does not have the recorded shape is a mistake of the caller's."""
    with pytest.raises(ValueError, match="recorded"):
        put(torch.zeros(32, 64), tensor(32, 32), device)


def test_tensors_take_their_places_among_args_and_keywords(device: ttnn.MeshDevice) -> None:
    """Tensors are taken in order, arguments first, then keywords; configs and dtypes become ttnn's own."""
    step = Step(
        "bias",
        "ttnn.linear",
        (tensor(32, 32), tensor(32, 32)),
        {"dtype": "DataType.FLOAT32", "bias": tensor(1, 32), "compute_kernel_config": COMPUTE},
        (tensor(32, 32, dtype="FLOAT32"),),
    )
    eye, ones = torch.eye(32), torch.ones(1, 32)
    tensors = [
        put(values, spec, device) for values, spec in zip((eye, 2 * eye, ones), step.tensors, strict=True)
    ]
    (result,) = call(step, tensors)
    assert result.dtype == ttnn.float32
    assert torch.equal(read(result), 2 * eye + ones)


def test_all_outputs_come_back(device: ttnn.MeshDevice) -> None:
    """An op with several outputs gives them all, in order."""
    step = Step(
        "q,k,v",
        "ttnn.experimental.nlp_create_qkv_heads",
        (tensor(1, 1, 32, 320),),
        {"num_heads": 3, "num_kv_heads": 1, "transpose_k_heads": False},
        (tensor(1, 3, 32, 64), tensor(1, 1, 32, 64), tensor(1, 1, 32, 64)),
    )
    outputs = call(step, [put(torch.ones(1, 1, 32, 320), step.tensors[0], device)])
    assert [tuple(output.shape) for output in outputs] == [spec.shape for spec in step.outputs]


def test_a_linear_gets_the_program_that_was_chosen(
    device: ttnn.MeshDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ttnn chose a program, the replay names it; where the call named one, or nothing is known, it does not."""
    calls: list[Any] = []

    def linear(*args: Any, program_config: Any = None, **kwargs: Any) -> None:
        calls.append(program_config)

    monkeypatch.setattr(ttnn, "linear", linear)
    operands = (tensor(32, 64), tensor(64, 1024))
    for width in (2, None):
        step = Step("qkv", "ttnn.linear", operands, {}, (tensor(32, 1024),), in0_block_w=width)
        call(step, [None, None])
    assert calls == [linear_program((32, 1024), 2), None]
    assert calls[0].in0_block_w == 2
    assert calls[0].per_core_N == 1


def test_an_op_that_is_not_there_is_named() -> None:
    """The emulator does not model every op; the replay says which one it lacks."""
    step = Step("x", "ttnn.experimental.no_such_op", (), {}, ())
    assert not offered(step.op)
    assert offered("ttnn.linear")
    with pytest.raises(NotOffered, match=r"ttnn\.experimental\.no_such_op"):
        call(step, [])


def test_a_missing_tensor_is_refused() -> None:
    """A call is not made with fewer tensors than it was recorded with."""
    step = Step("x", "ttnn.add", (tensor(32, 32), tensor(32, 32)), {}, (tensor(32, 32),))
    with pytest.raises(ValueError, match="takes 2 tensors, got 1"):
        call(step, [torch.zeros(1)])


def test_digest_sees_every_bit() -> None:
    """A zero of the other sign has another digest; a tensor of another layout in memory has not."""
    values = torch.zeros(4, 6)
    assert digest(values) != digest(-values)
    square = torch.randn(4, 6)
    assert digest(square.t().contiguous().t()) == digest(square)
