"""tt-symbiote's way from a Hugging Face model to the device: `register_modules`, `set_device`, then the model as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import ttnn
from symbiote_parts import BF16, HIDDEN
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen3Config, Qwen3MoeConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeRMSNorm
from tt_symbiote import register_modules, set_device
from tt_symbiote.core import run_config
from tt_symbiote.modules.ttnn_activation import TTNNSilu
from tt_symbiote.modules.ttnn_linear import TTNNLinear
from tt_symbiote.modules.ttnn_normalization import TTNNRMSNorm

Check = Callable[[Any, torch.Tensor], None]
SIZES = {
    "hidden_size": HIDDEN,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 512,
    "initializer_range": 0.05,
}
MODELS = {
    "llama": (LlamaConfig(**SIZES), LlamaRMSNorm),
    "qwen3": (Qwen3Config(**SIZES), Qwen3RMSNorm),
    # All experts take part: with a choice of some, one near a tie is another expert, and a random model has many.
    "qwen3_moe": (
        Qwen3MoeConfig(**SIZES, moe_intermediate_size=256, num_experts=4, num_experts_per_tok=4),
        Qwen3MoeRMSNorm,
    ),
}


def pair(config: PretrainedConfig) -> tuple[nn.Module, nn.Module]:
    """The same model twice."""
    torch.manual_seed(0)
    first = AutoModelForCausalLM.from_config(config, dtype=BF16).eval()
    second = AutoModelForCausalLM.from_config(config, dtype=BF16).eval()
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("name", MODELS)
def test_logits(name: str, one: Any, as_pytorch: Check) -> None:
    """Projections, norms and activations on the device; a prompt, then a step on the cache that it left."""
    config, norm = MODELS[name]
    reference, model = pair(config)
    replaced = register_modules(
        model, {nn.Linear: TTNNLinear, norm: TTNNRMSNorm, nn.SiLU: TTNNSilu}, model_config=None
    )
    assert len(replaced) >= 2 * 7, replaced.keys()
    set_device(model, one)
    ids = torch.randint(0, config.vocab_size, (1, 33))
    expected = reference(ids[:, :32])
    actual = model(ids[:, :32])
    as_pytorch(actual.logits, expected.logits)
    expected = reference(ids[:, 32:], past_key_values=expected.past_key_values)
    actual = model(ids[:, 32:], past_key_values=actual.past_key_values)
    as_pytorch(actual.logits, expected.logits)


def test_traced(one: Any, as_pytorch: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls: the first compiles, the second is captured, the third replays."""
    reference, model = pair(MODELS["llama"][0])
    replaced = register_modules(model, {nn.Linear: TTNNLinear}, model_config=None)
    set_device(model, one)
    traces = []
    execute = ttnn.execute_trace
    monkeypatch.setattr(
        ttnn, "execute_trace", lambda *args, **kwargs: traces.append(execute(*args, **kwargs))
    )
    monkeypatch.setattr("tt_symbiote.core.module.TENSOR_RUN_IMPLEMENTATION", run_config.TracedRun)
    run_config.TracedRun.configure(device=one)
    for _ in range(3):
        ids = torch.randint(0, 512, (1, 32))
        as_pytorch(model(ids).logits, reference(ids).logits)
    assert len(traces) >= len(replaced)
