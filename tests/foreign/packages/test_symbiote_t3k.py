"""tt-symbiote's modules for LLMs that need eight devices: each against the PyTorch module it takes the place of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import ttnn
from symbiote_parts import BF16, HIDDEN, activations, back, first, moe, on, rms_norm
from torch import nn
from tt_symbiote import set_device
from tt_symbiote.modules import (
    ttnn_embedding,
    ttnn_linear,
    ttnn_moe,
    ttnn_normalization,
)

Check = Callable[[Any, torch.Tensor], None]


@pytest.mark.parametrize(
    "name", ["TTNNLinearIColShardedWRowSharded", "TTNNLinearLLamaIColShardedWRowSharded"]
)
def test_linear_cut_along_what_it_sums(name: str, t3k: Any, as_pytorch: Check) -> None:
    """Each device has columns of the input and of the output."""
    linear = nn.Linear(HIDDEN, HIDDEN).to(BF16)
    module = getattr(ttnn_linear, name).from_torch(linear)
    set_device(module, t3k)
    x = activations()
    as_pytorch(module(x), linear(x))


def test_linear_whose_sum_every_device_has(t3k: Any, as_pytorch: Check) -> None:
    linear = nn.Linear(HIDDEN, HIDDEN, bias=False).to(BF16)
    module = ttnn_linear.TTNNLinearIColShardedWAllReduced.from_torch(linear)
    set_device(module, t3k)
    x = activations()
    as_pytorch(first(t3k, module.forward(on(t3k, x, shard=-1))), linear(x))


def test_linear_cut_along_its_outputs(t3k: Any, as_pytorch: Check) -> None:
    linear = nn.Linear(HIDDEN, HIDDEN).to(BF16)
    module = ttnn_linear.TTNNLinearIReplicatedWColSharded.from_torch(linear)
    set_device(module, t3k)
    x = activations()
    as_pytorch(back(t3k, module.forward(on(t3k, x))), linear(x))


def test_rms_norm_over_devices(t3k: Any, as_pytorch: Check) -> None:
    norm = rms_norm()
    module = ttnn_normalization.TTNNDistributedRMSNorm.from_torch(norm)
    set_device(module, t3k)
    x = activations()
    as_pytorch(module(x), norm(x))


@pytest.mark.parametrize("name", ["TTNNEmbedding", "TTNNBailingPaddedEmbedding"])
@pytest.mark.parametrize("seq_len", [64, 45])
def test_embedding(name: str, seq_len: int, t3k: Any, as_pytorch: Check) -> None:
    embedding = nn.Embedding(512, HIDDEN).to(BF16)
    module = getattr(ttnn_embedding, name).from_torch(embedding)
    set_device(module, t3k)
    ids = torch.randint(0, 512, (1, seq_len), dtype=torch.int32)
    as_pytorch(back(t3k, module.forward(on(t3k, ids, ttnn.uint32))), embedding(ids))


@pytest.mark.xfail(
    strict=True,
    reason="not covered: all_to_all_dispatch works across devices, and the emulator has no such op",
)
def test_moe(t3k: Any, as_pytorch: Check) -> None:
    """Experts on the devices that have them, tokens sent there and back."""
    block = moe()
    x = activations()
    expected = block(x)
    module = ttnn_moe.TTNNMoE.from_torch(block)
    set_device(module, t3k)
    as_pytorch(back(t3k, module.forward(on(t3k, x, shard=-1))), expected)


def test_mlp_of_glm4(t3k: Any, as_pytorch: Check) -> None:
    block = moe().shared_experts
    module = ttnn_moe.TTNNGlm4MoeMLP.from_torch(block)
    set_device(module, t3k)
    x = activations()
    as_pytorch(module(x), block(x))
