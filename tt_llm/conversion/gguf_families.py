"""The config of a Hugging Face model that a GGUF's metadata stand for, family by family.

What llama.cpp keeps in its code rather than in the file stands here, with the name of its source: the pattern of Gemma's
windows, Gemma 3's local RoPE, the layers of SmolLM3 without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tt_llm.conversion.gguf_file import GgufFile
from tt_llm.errors import InputError
from tt_llm.rope_types import RopeScaling, rope_frequencies, rope_multipliers

# Of Llama 3's scaling: the limits that all its models have, and original lengths to try, that of its own models first.
_LIMITS = (1.0, 4.0)
_LENGTHS = (8192, *(2**n for n in range(24)))

Settings = dict[str, Any]


def hf_settings(file: GgufFile) -> tuple[str, Settings]:
    """The model type, and what its config is made of. Raises InputError for what is missing or not understood."""
    if file.architecture not in FAMILIES:
        raise InputError(
            f"model file {file.path}: architecture {file.architecture} is not supported, only {', '.join(FAMILIES)}"
        )
    family = FAMILIES[file.architecture]
    if "token_embd.weight" not in file.shapes:
        raise InputError(
            f"model file {file.path}: token_embd.weight for model.embed_tokens.weight is missing from it"
        )
    dim, heads = file.own_count("embedding_length"), file.own_count("attention.head_count")
    if dim < heads:
        raise InputError(f"model file {file.path}: its {heads} heads cannot share {dim} columns")
    rotated = file.own_count("rope.dimension_count", file.own_count("attention.key_length", dim // heads))
    head_dim = file.own_count("attention.key_length", dim // heads if family.partial_rope else rotated)
    for name, value in (
        ("rope.dimension_count", head_dim if not family.partial_rope else rotated),
        ("attention.value_length", head_dim),
    ):
        if file.own(name, value) != value:
            raise InputError(
                f"model file {file.path}: {file.architecture}.{name} is {file.own(name)}, only heads of one width, here"
                f" {head_dim}, that is rotated whole, are supported"
            )
    layers = file.own_count("block_count")
    last = f"blk.{layers - 1}.attn_output.weight"  # before anything is as long as that number
    if last not in file.shapes:
        raise InputError(
            f"model file {file.path}: {last} for model.layers.{layers - 1}.self_attn.o_proj.weight is missing from it"
        )
    epsilon = "layer_norm_eps" if family.layer_norm else "rms_norm_eps"
    settings: Settings = {
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": file.own_count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": file.own_count("feed_forward_length"),
        "max_position_embeddings": file.own_count("context_length"),
        "vocab_size": file.shapes["token_embd.weight"][0],
        "tie_word_embeddings": "output.weight" not in file.shapes,
        epsilon: file.own(f"attention.layer_norm_{'' if family.layer_norm else 'rms_'}epsilon"),
        "rope_parameters": _rope(file, head_dim, rotated),
        "bos_token_id": _token(file, "bos"),
        "eos_token_id": _token(file, "eos"),
        "pad_token_id": _token(file, "padding"),
    }
    for name, tensor in family.biases.items():
        settings[name] = any(stored.endswith(f"{tensor}.bias") for stored in file.shapes)
    settings |= family.more(file, settings)
    file.check_all_understood()
    return family.model_type, settings


@dataclass(frozen=True)
class Family:
    """`pairs`: llama.cpp's converter keeps the rows of each query and key head in pairs, (i, i + d/2) side by side.

    `biases`: fields of the config that say whether there are biases, and a tensor that has one then.
    """

    model_type: str
    pairs: bool = False
    layer_norm: bool = False
    partial_rope: bool = False
    biases: dict[str, str] = field(default_factory=dict)
    more: Callable[[GgufFile, Settings], Settings] = lambda file, settings: {}


def llama3_scaling(divisors: torch.Tensor, theta: float) -> RopeScaling | None:
    """The scaling that divides the frequencies of a head by these, [head_dim / 2]; None where it changes nothing.

    Several say the same of one head's frequencies; that of Llama 3's own models is taken where it is one of them.
    Raises ValueError for divisors that Llama 3's rule does not give.
    """
    if bool((divisors == 1).all()):
        return None
    plain, multipliers = rope_frequencies(2 * len(divisors), theta), 1 / divisors
    for length in _LENGTHS:
        # The lowest frequency is divided most: by `factor`, or by less where the blend reaches up to it.
        blend = rope_multipliers(plain, RopeScaling(math.inf, *_LIMITS, length))[-1].item()
        if blend == 1 or multipliers[-1] <= blend:
            continue
        factor = (1 - blend) / (multipliers[-1].item() - blend)
        for one in (float(round(factor)), factor):
            scaling = RopeScaling(one, *_LIMITS, length)
            if torch.allclose(rope_multipliers(plain, scaling), multipliers, rtol=1e-5, atol=0):
                return scaling
    raise ValueError(f"divisors {', '.join(f'{d:g}' for d in divisors.tolist())}")


def _rope(file: GgufFile, head_dim: int, rotated: int) -> Settings:
    """What Hugging Face calls `rope_parameters`."""
    theta = float(file.own("rope.freq_base", 10000.0))  # llama.cpp's own where a file says nothing
    settings: Settings = {"rope_type": "default", "rope_theta": theta}
    if rotated != head_dim:
        settings["partial_rotary_factor"] = rotated / head_dim
    kind, factor = file.own_value("rope.scaling.type") or "none", file.own("rope.scaling.factor", 1.0)
    old = file.own("rope.scale_linear", 1.0)  # as files said before there were types
    if kind == "none" and old != 1.0:
        kind, factor = "linear", old
    original = file.own("rope.scaling.original_context_length", 0)
    magnitude = file.own("rope.scaling.attn_factor", 1.0)
    if "rope_freqs.weight" in file.shapes:
        return settings | _llama3(file, theta, rotated)
    if any(f"rope_factors_{name}.weight" in file.shapes for name in ("short", "long")):
        settings |= {"rope_type": "longrope", "attention_factor": magnitude}
        settings["original_max_position_embeddings"] = original or file.own_count("context_length")
        for name in ("short", "long"):
            tensor = f"rope_factors_{name}.weight"
            if file.shapes.get(tensor) != (rotated // 2,):
                raise InputError(
                    f"model file {file.path}: {tensor} is {file.shapes.get(tensor)}, its heads have {rotated // 2} pairs"
                )
            settings[f"{name}_factor"] = file.tensor(tensor).tolist()
        return settings
    if magnitude != 1.0:
        raise InputError(f"model file {file.path}: rope.scaling.attn_factor {magnitude:g} is not supported")
    if kind == "linear" and factor != 1.0:
        return settings | {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn" and factor != 1.0:
        if not original:
            raise InputError(f"model file {file.path}: it does not say rope.scaling.original_context_length")
        return settings | {
            "rope_type": "yarn",
            "factor": float(factor),
            "original_max_position_embeddings": original,
            "beta_fast": float(file.own("rope.scaling.yarn_beta_fast", 32.0)),
            "beta_slow": float(file.own("rope.scaling.yarn_beta_slow", 1.0)),
        }
    if kind not in ("none", "linear", "yarn", "llama3", "longrope"):
        raise InputError(f"model file {file.path}: rope scaling {kind!r} by {factor:g} is not supported")
    return settings


def _llama3(file: GgufFile, theta: float, rotated: int) -> Settings:
    """llama.cpp keeps Llama 3's scaling as a tensor of divisors."""
    divisors = file.tensor("rope_freqs.weight").float()
    if len(divisors) != rotated // 2:
        raise InputError(
            f"model file {file.path}: rope_freqs.weight has {len(divisors)} numbers, its heads have {rotated // 2} pairs"
        )
    try:
        scaling = llama3_scaling(divisors, theta)
    except ValueError as error:
        raise InputError(
            f"model file {file.path}: rope_freqs.weight is not of Llama 3's scaling ({error})"
        ) from None
    if scaling is None:
        return {}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_position,
    }


def _token(file: GgufFile, name: str) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    return int(file.number(key)) if file.has(key) else None


def _llama(file: GgufFile, settings: Settings) -> Settings:
    return {"unk_token_id": _token(file, "unknown")}


def _phi3(file: GgufFile, settings: Settings) -> Settings:
    # Whether a model's window is off is said by a width of 0.
    return {"sliding_window": file.own("attention.sliding_window", 0) or None} | (
        {"original_max_position_embeddings": original}
        if (original := settings["rope_parameters"].get("original_max_position_embeddings"))
        else {}
    )


def _stablelm(file: GgufFile, settings: Settings) -> Settings:
    file.own_value("use_parallel_residual")  # llama.cpp goes by whether there is a norm before the MLP
    return {"use_parallel_residual": "blk.0.ffn_norm.weight" not in file.shapes}


def _granite(file: GgufFile, settings: Settings) -> Settings:
    return {
        "embedding_multiplier": file.own("embedding_scale", 1.0),
        "residual_multiplier": file.own("residual_scale", 1.0),
        "attention_multiplier": file.own("attention.scale", settings["head_dim"] ** -0.5),
        "logits_scaling": file.own("logit_scale", 1.0),
    }


def _smollm3(file: GgufFile, settings: Settings) -> Settings:
    # llama.cpp's src/models/smollm3.cpp: n_no_rope_layer_step is 4.
    return {"no_rope_layers": [int((i + 1) % 4 != 0) for i in range(settings["num_hidden_layers"])]}


def _gemma(
    period: int, largest: int, window: int | None, **caps: float
) -> Callable[[GgufFile, Settings], Settings]:
    """`period`: the last of so many layers sees everything. `largest`: layers of the model whose scores are scaled by the
    width of dim / heads in place of head_dim. As in llama.cpp's src/models/gemma2.cpp and gemma3.cpp.
    """

    def more(file: GgufFile, settings: Settings) -> Settings:
        layers, heads = settings["num_hidden_layers"], settings["num_attention_heads"]
        pattern = file.own_value("attention.sliding_window_pattern") or period
        if isinstance(pattern, list):
            slides = [bool(one) for one in pattern]
        elif not isinstance(pattern, int) or pattern < 1:
            raise InputError(f"model file {file.path}: attention.sliding_window_pattern is {pattern!r}")
        else:
            slides = [i % pattern < pattern - 1 for i in range(layers)]
        fields: Settings = {
            "query_pre_attn_scalar": settings["hidden_size"] // heads
            if layers == largest
            else settings["head_dim"],
            "sliding_window": file.own("attention.sliding_window", window),
            "layer_types": ["sliding_attention" if one else "full_attention" for one in slides],
        }
        for name in ("attn_logit_softcapping", "final_logit_softcapping"):
            value = file.own_value(name)
            fields[name] = (value or None) if value is not None else caps.get(name)
        if period == 6:  # Gemma 3's layers with a window have a RoPE of their own
            local = float(file.own("rope.freq_base_swa", 10000.0))
            fields["rope_parameters"] = {
                "full_attention": settings["rope_parameters"],
                "sliding_attention": {"rope_type": "default", "rope_theta": local},
            }
        return fields

    return more


_ATTENTION = {"attention_bias": "attn_q"}
_BOTH = _ATTENTION | {"mlp_bias": "ffn_up"}
FAMILIES = {
    "llama": Family("llama", pairs=True, biases=_BOTH, more=_llama),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3", biases=_ATTENTION),
    "phi3": Family("phi3", partial_rope=True, more=_phi3),
    "gemma2": Family(
        "gemma2", more=_gemma(2, 46, 4096, attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
    ),
    "gemma3": Family("gemma3_text", more=_gemma(6, 62, None)),
    "olmo2": Family("olmo2", biases=_ATTENTION),
    "granite": Family("granite", pairs=True, biases=_BOTH, more=_granite),
    "smollm3": Family("smollm3", pairs=True, biases=_BOTH, more=_smollm3),
    "stablelm": Family(
        "stablelm", layer_norm=True, partial_rope=True, biases={"use_qkv_bias": "attn_q"}, more=_stablelm
    ),
}
