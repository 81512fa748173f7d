"""What does not fit the device says so in one line, and takes no host memory either."""

from __future__ import annotations

import gc
import resource
from typing import Any

import pytest
import torch
import ttnn

import tt_llm
from harness.emulator import OutOfMemoryError
from tt_llm.config import ModelConfig
from tt_llm.kv_cache import PagedKVCache
from tt_llm.tensor_parallel import TensorParallel


def peak_bytes() -> int:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dram_used(mesh_device: Any) -> int:
    return mesh_device.allocator.usage(ttnn.BufferType.DRAM).allocated


def test_a_cache_that_exceeds_dram_is_refused_before_the_host_pays(
    tiny: Any, mesh_device: Any, one_line: Any
) -> None:
    """Keys of 24 GB against 12 GB of DRAM: one line with need and room; the process has not grown by a tenth of it."""
    tp = TensorParallel.of(ModelConfig.from_folder(tiny("mha").folder), 1)
    gc.collect()  # what earlier tests left on the device
    used, peak = dram_used(mesh_device), peak_bytes()
    n_blocks = 24 * 10**9 // (2 * 32 * 64 * 2)
    with pytest.raises(OutOfMemoryError, match="out of DRAM") as caught:
        PagedKVCache(mesh_device=mesh_device, tp=tp, n_blocks=n_blocks, dtype=ttnn.bfloat16)
    message = one_line(caught.value)
    assert "12 banks" in message
    assert "free of" in message
    assert peak_bytes() - peak < 10**9
    del caught
    assert dram_used(mesh_device) == used


def test_load_refuses_a_model_whose_cache_does_not_fit(
    make_tiny: Any, mesh_device: Any, one_line: Any
) -> None:
    """Weights that fit with users times tokens that do not: load raises, and gives back what it had taken."""
    model = make_tiny(
        num_hidden_layers=1,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=128,
        max_position_embeddings=131072,
        vocab_size=64,
    )
    used, peak = dram_used(mesh_device), peak_bytes()
    with pytest.raises(OutOfMemoryError, match="out of DRAM") as caught:
        tt_llm.load(str(model.folder), mesh_device, "accuracy", max_batch_size=32, max_seq_len=65536)
    assert one_line(caught.value)
    assert peak_bytes() - peak < 10**9
    del caught
    assert dram_used(mesh_device) == used


def test_a_decode_step_that_exceeds_l1_is_refused(make_tiny: Any, mesh_device: Any, one_line: Any) -> None:
    """Widths without a common divisor leave one core to hold a whole row of tiles; an MLP too wide for it is out of L1."""
    model = make_tiny(
        hidden_size=64,
        intermediate_size=32 * 331,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=64,
    )
    generator = tt_llm.load(str(model.folder), mesh_device, "accuracy", max_batch_size=1, max_seq_len=128)
    with pytest.raises(OutOfMemoryError, match="out of L1") as caught:
        generator.decode_forward(torch.tensor([[1]]), torch.tensor([0]))
    assert "64 banks" in one_line(caught.value)
