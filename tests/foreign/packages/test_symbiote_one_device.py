"""tt-symbiote's modules for LLMs that run on a device by themselves: each against the PyTorch module it takes the place of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import ttnn
from symbiote_parts import BF16, HIDDEN, activations, moe, on, rms_norm
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, Qwen3NextConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextAttention, Qwen3NextRotaryEmbedding
from tt_symbiote import set_device
from tt_symbiote.modules import (
    ttnn_activation,
    ttnn_attention,
    ttnn_linear,
    ttnn_linear_intelligent,
    ttnn_moe,
    ttnn_normalization,
    ttnn_rope,
)

Check = Callable[[Any, torch.Tensor], None]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["TTNNLinear", "TTNNLinearLLama", "TTNNLinearLLamaBFloat16"])
def test_linear(name: str, bias: bool, one: Any, as_pytorch: Check) -> None:
    linear = nn.Linear(HIDDEN, 128, bias=bias).to(BF16)
    module = getattr(ttnn_linear, name).from_torch(linear)
    set_device(module, one)
    x = activations()
    as_pytorch(module(x), linear(x))


@pytest.mark.parametrize("seq_len", [1, 64])
@pytest.mark.parametrize("name", ["SmartTTNNLinear", "SmartTTNNLinearLLama", "SmartTTNNLinearLLamaBFloat16"])
def test_linear_for_prefill_and_decode(name: str, seq_len: int, one: Any, as_pytorch: Check) -> None:
    linear = nn.Linear(HIDDEN, 512).to(BF16)
    module = getattr(ttnn_linear_intelligent, name).from_torch(linear)
    set_device(module, one)
    x = activations(1, seq_len, HIDDEN)
    as_pytorch(module(x), linear(x))


@pytest.mark.parametrize(("name", "function"), [("Gelu", functional.gelu), ("Silu", functional.silu)])
def test_linear_with_activation(name: str, function: Any, one: Any, as_pytorch: Check) -> None:
    linear = nn.Linear(HIDDEN, 128).to(BF16)
    module = getattr(ttnn_linear, f"TTNNLinear{name}").from_torch(linear)
    set_device(module, one)
    x = activations()
    as_pytorch(module(x), function(linear(x)))


@pytest.mark.parametrize(
    ("name", "function"), [("Silu", functional.silu), ("ReLU", functional.relu), ("Gelu", functional.gelu)]
)
def test_activation(name: str, function: Any, one: Any, as_pytorch: Check) -> None:
    module = getattr(ttnn_activation, f"TTNN{name}")()
    set_device(module, one)
    x = activations()
    as_pytorch(module(x), function(x))


def test_layer_norm(one: Any, as_pytorch: Check) -> None:
    norm = nn.LayerNorm(HIDDEN).to(BF16)
    norm.weight.copy_(1 + torch.randn(HIDDEN) / 4)
    norm.bias.copy_(torch.randn(HIDDEN) / 4)
    module = ttnn_normalization.TTNNLayerNorm.from_torch(norm)
    set_device(module, one)
    x = activations()
    as_pytorch(module(x), norm(x))


@pytest.mark.parametrize("name", ["TTNNRMSNorm", "TTNNLocalRMSNorm"])
def test_rms_norm(name: str, one: Any, as_pytorch: Check) -> None:
    norm = rms_norm()
    module = getattr(ttnn_normalization, name).from_torch(norm)
    set_device(module, one)
    x = activations()
    as_pytorch(module(x), norm(x))


LLAMA = LlamaConfig(
    hidden_size=HIDDEN, num_attention_heads=4, num_key_value_heads=4, head_dim=64, intermediate_size=512
)


def cos_and_sin(seq_len: int) -> tuple[torch.Tensor, torch.Tensor]:
    positions = torch.arange(seq_len)[None]
    return LlamaRotaryEmbedding(LLAMA)(activations(1, seq_len, HIDDEN), positions)


@pytest.mark.parametrize("seq_len", [64, 45])
@pytest.mark.parametrize("rotated", [64, 32])
def test_rope(rotated: int, seq_len: int, one: Any, as_pytorch: Check) -> None:
    """Whole heads, and the first half of them."""
    cos, sin = (values[..., :rotated] for values in cos_and_sin(seq_len))
    reference = ttnn_rope.TorchRotaryPositionEmbedding()
    module = ttnn_rope.TTNNRotaryPositionEmbedding()
    set_device(module, one)
    q, k = activations(1, 4, seq_len, 64), activations(1, 2, seq_len, 64)
    expected = reference(q, k, cos, sin)
    actual = module.forward(*(on(one, values) for values in (q, k, cos, sin)))
    for got, want in zip(actual, expected, strict=True):
        as_pytorch(got, want)


def test_attention_of_llama(one: Any, as_pytorch: Check) -> None:
    """Fused QKV. With fewer heads of keys than of queries 0.1.6 hands torch tensors to ttnn, and runs in PyTorch."""
    LLAMA._attn_implementation = "sdpa"
    attention = LlamaAttention(LLAMA, layer_idx=0).to(BF16)
    module = ttnn_attention.LlamaAttention.from_torch(attention)
    set_device(module, one)
    # `set_device` has every inner module give plain device tensors; this one's caller wants a wrapped one.
    module.qkv_proj.linear._bypass_tensor_wrapping = False
    x, (cos, sin) = activations(), cos_and_sin(64)
    expected, _ = attention(x, position_embeddings=(cos, sin), attention_mask=None)
    actual, _ = module(x, position_embeddings=(cos, sin))
    as_pytorch(actual, expected)


@pytest.mark.parametrize("causal", [True, False])
def test_sdpa(causal: bool, one: Any, as_pytorch: Check) -> None:
    q, k, v = (activations(1, 4, 64, 64) for _ in range(3))
    module = ttnn_attention.TTNNSDPAAttention()
    set_device(module, one)
    actual = module.forward(
        None, *(on(one, x) for x in (q, k, v)), None, is_causal=causal, transpose_output=False
    )
    as_pytorch(actual, functional.scaled_dot_product_attention(q, k, v, is_causal=causal))


def test_attention_of_qwen3_next(one: Any, as_pytorch: Check) -> None:
    config = Qwen3NextConfig(
        hidden_size=HIDDEN,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        partial_rotary_factor=0.5,
    )
    config._attn_implementation = "sdpa"
    attention = Qwen3NextAttention(config, layer_idx=0).to(BF16)
    for norm in (attention.q_norm, attention.k_norm):
        norm.weight.copy_(torch.randn(64) / 4)
    module = ttnn_attention.TTNNQwen3NextGatedAttention.from_torch(attention)
    set_device(module, one)
    x = activations()
    cos_sin = Qwen3NextRotaryEmbedding(config)(x, torch.arange(64)[None])
    expected, _ = attention(x, position_embeddings=cos_sin, attention_mask=None)
    actual, _ = module(x, cos_sin)
    as_pytorch(actual, expected)


def test_router(one: Any, as_pytorch: Check) -> None:
    """The experts that it chooses, and their weights, in any order."""
    block = moe()
    reference = ttnn_moe.Glm4MoeRouteTokenToExperts(
        block.gate.e_score_correction_bias, 16, 1, 1, 4, True, block.gate.routed_scaling_factor
    )
    module = ttnn_moe.TTNNMoERouterDecode.from_torch(reference)
    set_device(module, one)
    logits = activations(64, 16)
    chosen, weights = reference(logits.float())
    got_chosen, got_weights = module.forward(on(one, logits))
    expected = torch.zeros(64, 16).scatter(1, chosen.long(), weights.float())
    actual = torch.zeros(64, 16).scatter(
        1, ttnn.to_torch(got_chosen).long(), ttnn.to_torch(got_weights).float()
    )
    as_pytorch(actual, expected)
