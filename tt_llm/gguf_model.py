"""A Llama's GGUF as the Hugging Face folder it was made of: float32 weights, and the config that its metadata stand for.

transformers reads the tensors. What its reader passes over is read here: the RoPE scaling of Llama 3, which llama.cpp keeps
as a tensor of divisors, heads of another width than dim / heads, and every token that ends a text.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tt_llm.errors import InputError, on_one_line
from tt_llm.rope_types import RopeScaling, rope_frequencies, rope_multipliers

VERSION = 2  # of what a conversion makes: raise it, and files converted before are converted again
_OF_A_LAYER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up")
_TENSORS = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"}
# Without these transformers' reader takes the defaults of its config class.
_NEEDED = (
    *("context_length", "embedding_length", "block_count", "feed_forward_length"),
    *("attention.head_count", "attention.layer_norm_rms_epsilon"),
)
_STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")  # as llama.cpp ends a generation
# Of Llama 3's scaling: the limits that all its models have, and original lengths to try, that of its own models first.
_LIMITS = (1.0, 4.0)
_LENGTHS = (8192, *(2**n for n in range(24)))


def convert(gguf: Path, folder: Path) -> None:
    """Writes the folder. Raises InputError for a file that is damaged or whose model is not wholly understood."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, tokenizer, stops = _read(gguf)
    _save_float32(model, folder)
    tokenizer.save_pretrained(folder)
    if len(stops) > 1:  # a single one is in config.json
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}), encoding="utf-8")


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


def _read(gguf: Path) -> tuple[Any, Any, list[int]]:
    """The float32 model and the tokenizer that transformers makes of it, with the config mended, and the ends of a text."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    fields, shapes, rope_freqs = _header(gguf)
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    try:
        config = AutoConfig.from_pretrained(**source)
        if fields["general.architecture"] == "llama":
            _mend(config, gguf, fields, shapes, rope_freqs)
        print(f"converting {gguf} to float32 safetensors, once", file=sys.stderr)
        # The loader draws a progress bar of a step a tensor, which no setting turns off.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(**source)
            model, info = AutoModelForCausalLM.from_pretrained(
                **source, config=config, dtype=torch.float32, output_loading_info=True
            )
    except InputError:
        raise
    except Exception as error:  # the loaders raise many types
        raise InputError(f"model file {gguf}: transformers cannot read it ({on_one_line(error)})") from error
    if info["missing_keys"]:  # which transformers fills with random numbers
        raise InputError(f"model file {gguf}: tensor {min(info['missing_keys'])} is missing from it")
    if fields["general.architecture"] == "llama" and "llama.attention.head_count_kv" not in fields:
        _reorder_heads(model)
    stops = (fields.get(f"tokenizer.ggml.{name}") for name in _STOPS)
    return model, tokenizer, list(dict.fromkeys(int(token) for token in stops if token is not None))


def _header(gguf: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], torch.Tensor | None]:
    """Metadata, tensor shapes as PyTorch has them, and the divisors of RoPE; of vocabulary and merges only that they are there.

    Raises InputError unless every tensor the header names lies whole in the file.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
        end = max(int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors)
        fields = {
            name: None if name.startswith("tokenizer.ggml.tok") or "merges" in name else field.contents()
            for name, field in reader.fields.items()
        }
        fields["general.architecture"]
    except (ValueError, IndexError, KeyError, EOFError) as error:
        raise InputError(f"model file {gguf}: damaged or truncated GGUF ({on_one_line(error)})") from error
    if end > gguf.stat().st_size:
        raise InputError(f"model file {gguf}: truncated, {gguf.stat().st_size} of {end} bytes")
    shapes = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors}
    freqs = [t.data for t in reader.tensors if t.name == "rope_freqs.weight"]
    return fields, shapes, torch.from_numpy(np.array(freqs[0], dtype=np.float32)) if freqs else None


def _mend(
    config: Any,
    gguf: Path,
    fields: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    rope_freqs: torch.Tensor | None,
) -> None:
    """Gives a Llama's config what the GGUF says beside what transformers' reader takes of it. Raises InputError."""
    metadata = {
        name.removeprefix("llama."): value for name, value in fields.items() if name.startswith("llama.")
    }
    for name in _NEEDED:
        if name not in metadata:
            raise InputError(f"model file {gguf}: it does not say llama.{name}")
    names = {*_TENSORS, *_layer_tensors(range(config.num_hidden_layers))}
    if unknown := sorted(set(shapes) - names):
        raise InputError(
            f"model file {gguf}: tensor {unknown[0]} is none that a Llama without biases and experts has"
        )
    width = config.hidden_size // config.num_attention_heads
    rotated = metadata.get("rope.dimension_count", metadata.get("attention.key_length", width))
    config.head_dim = metadata.get("attention.key_length", rotated)
    for name, value in (("rope.dimension_count", rotated), ("attention.value_length", None)):
        if metadata.get(name, value) not in (None, config.head_dim):
            raise InputError(
                f"model file {gguf}: llama.{name} is {metadata[name]}, only heads of one width, here {config.head_dim},"
                " that is rotated whole, are supported"
            )
    if "token_embd.weight" in shapes:
        config.vocab_size = shapes["token_embd.weight"][0]
    kind, factor = metadata.get("rope.scaling.type", "none"), metadata.get("rope.scaling.factor", 1.0)
    if "rope.scale_linear" in metadata and "rope.scaling.type" not in metadata:
        kind, factor = "linear", metadata["rope.scale_linear"]
    if kind not in ("none", "llama3") and not (kind == "linear" and factor == 1.0):
        raise InputError(
            f"model file {gguf}: rope scaling {kind!r} by {factor:g} is not supported, only that of Llama 3"
        )
    if rope_freqs is not None:
        config.rope_parameters = _rope_parameters(gguf, rope_freqs, config)


def _rope_parameters(gguf: Path, divisors: torch.Tensor, config: Any) -> dict[str, Any]:
    theta = float(config.rope_parameters["rope_theta"])
    if len(divisors) != config.head_dim // 2:
        raise InputError(
            f"model file {gguf}: rope_freqs.weight has {len(divisors)} numbers, its heads have {config.head_dim // 2} pairs"
        )
    try:
        scaling = llama3_scaling(divisors, theta)
    except ValueError as error:
        raise InputError(
            f"model file {gguf}: rope_freqs.weight is not of Llama 3's scaling ({error})"
        ) from None
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}
    return {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_position,
    }


def _layer_tensors(layers: Iterable[int]) -> list[str]:
    return [f"blk.{i}.{name}.weight" for i in layers for name in (*_OF_A_LAYER, "ffn_down")]


def _reorder_heads(model: Any) -> None:
    """From llama.cpp's order of a head's rows to Hugging Face's, which transformers' reader does only for grouped heads."""
    heads = model.config.num_attention_heads
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            rows = projection.weight.data.unflatten(0, (heads, -1, 2))
            projection.weight.data = rows.transpose(1, 2).flatten(0, 2).contiguous()


def _save_float32(model: Any, folder: Path) -> None:
    # Not save_pretrained: it refuses a model that was read from a GGUF, though its weights are plain float32 now.
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
