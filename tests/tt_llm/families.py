"""The families that run, each a tiny random model with its real config's ratios, and how far logits are from the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

COMMON: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.06,
    "bos_token_id": None,
    "eos_token_id": 7,
    "pad_token_id": None,
}
TWO_KINDS = ["sliding_attention", "full_attention"]
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.05 * i for i in range(24)],
    "long_factor": [2.0 + 0.5 * i for i in range(24)],
    "original_max_position_embeddings": 256,
    "partial_rotary_factor": 0.75,
}
# Of each row: the class, and what its config has beside COMMON.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama_odd": ("Llama", {"head_dim": 100, "intermediate_size": 430}),  # neither is whole tiles
    "llama_bias": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2_window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 128}),
    "qwen3_odd": ("Qwen3", {"head_dim": 80}),
    "mistral": ("Mistral", {"sliding_window": 40, "head_dim": 64}),
    "mistral_wide": ("Mistral", {"sliding_window": 4096, "head_dim": 96}),
    "phi3": ("Phi3", {"num_key_value_heads": 4, "sliding_window": 50}),
    "phi4_mini": ("Phi3", {"rope_parameters": LONGROPE, "tie_word_embeddings": True}),
    "stablelm_odd": ("StableLm", {"hidden_size": 320, "use_qkv_bias": True}),  # heads of 80
    "stablelm": ("StableLm", {"use_qkv_bias": True, "num_key_value_heads": 4}),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.015625,
        },
    ),
    "olmo2": ("Olmo2", {"num_key_value_heads": 4}),
    "olmo2_odd": ("Olmo2", {"num_key_value_heads": 4, "head_dim": 80, "hidden_size": 320}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0]}),
    "mixtral": ("Mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        "Qwen3Moe",
        {"head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 96},
    ),
    "qwen3_moe_normed": (
        "Qwen3Moe",
        {
            "head_dim": 64,
            "num_experts": 40,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 64,
            "norm_topk_prob": True,
        },
    ),
    "gemma2": (
        "Gemma2",
        {
            "head_dim": 128,
            "query_pre_attn_scalar": 128,
            "sliding_window": 40,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": 2.0,  # low enough to matter for logits of this size
            "layer_types": TWO_KINDS,
        },
    ),
    "gemma2_softcap": (
        "Gemma2",
        {
            "head_dim": 64,
            "num_attention_heads": 8,
            "query_pre_attn_scalar": 64,
            "sliding_window": 40,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 2.0,
            "layer_types": TWO_KINDS,
        },
    ),
    "gemma3": (
        "Gemma3",
        {"head_dim": 128, "query_pre_attn_scalar": 168, "sliding_window": 40, "layer_types": TWO_KINDS},
    ),
    "linear_rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "dynamic_rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "yarn_rope": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
}


def make_family(folder: Path, name: str) -> Any:
    """Saves a seeded random model of a row to the folder -> the model. No weight or bias is at a value that hides it."""
    from tokenizers import Tokenizer, models

    kind, own = FAMILIES[name]
    config_class = "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config"
    config = getattr(transformers, config_class)(**{**COMMON, **own})
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    for parameter, weight in model.named_parameters():
        if "norm" in parameter and parameter.endswith("weight"):
            low = -0.5 if kind.startswith("Gemma") else 0.5
            torch.nn.init.uniform_(weight, low, low + 1.0)
        if parameter.endswith("bias"):
            torch.nn.init.uniform_(weight, -1.0, 1.0)
    model.save_pretrained(folder)
    words = {f"t{i}": i for i in range(config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return model


def worst_rows(actual: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
    """The lowest PCC and the largest relative error of the rows of two [.., vocab]."""
    actual, expected = actual.flatten(0, -2).double(), expected.flatten(0, -2).double()
    a, b = (x - x.mean(-1, keepdim=True) for x in (actual, expected))
    pcc = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return float(pcc.min()), float(((actual - expected).norm(dim=-1) / expected.norm(dim=-1)).max())
