"""A GGUF as the Hugging Face folder it was made of: weights, tokenizer, and the config that its metadata stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tt_llm.checkpoint import LM_HEAD, tensor_shapes
from tt_llm.config import ModelConfig
from tt_llm.conversion.gguf_families import FAMILIES, hf_settings
from tt_llm.conversion.gguf_file import GgufFile
from tt_llm.conversion.writing import WeightWriter
from tt_llm.errors import InputError, on_one_line

VERSION = 3  # of what a conversion makes: raise it, and files converted before are converted again
_STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")  # as llama.cpp ends a generation
# Tensors that the config is made of.
_OF_ROPE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def convert(gguf: Path, folder: Path) -> None:
    """Writes the folder. Raises InputError for a file that is damaged or whose model is not wholly understood."""
    file = GgufFile(gguf)
    config = _write_config(file, folder)
    names = _tensor_names(file, config)
    _tokenizer(file).save_pretrained(folder)
    keys = [f"tokenizer.ggml.{name}" for name in _STOPS]
    stops = list(dict.fromkeys(int(file.number(key)) for key in keys if file.has(key)))
    if len(stops) > 1:  # a single one is in config.json
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}), encoding="utf-8")
    writer = WeightWriter(folder)
    for name, stored in names.items():
        writer.add(name, _as_hugging_face(file.tensor(stored), name, file.architecture, config))
    writer.close()


def _write_config(file: GgufFile, folder: Path) -> ModelConfig:
    """Writes config.json, and reads it as a model's."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type, settings = hf_settings(file)
    try:
        config = AutoConfig.for_model(model_type, **settings, dtype="float32")
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]]
        config.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the config classes raise many types
        raise InputError(
            f"model file {file.path}: its metadata make no model ({on_one_line(error)})"
        ) from error
    try:
        return ModelConfig.from_folder(folder)
    except InputError as error:  # which names the folder that is being made
        raise InputError(str(error).replace(f"model {folder}", f"model file {file.path}")) from None


def _tensor_names(file: GgufFile, config: ModelConfig) -> dict[str, str]:
    """What each tensor of the model is called in the file. Raises InputError unless they are all there, and no others."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == file.architecture)
    name_map = get_tensor_name_map(architecture, config.n_layers)
    shapes = tensor_shapes(config)
    if not config.tied_embeddings:
        shapes[LM_HEAD] = config.vocab_size, config.dim
    names: dict[str, str] = {}
    for name, shape in shapes.items():
        stored = name_map.get_name(name, (".weight", ".bias"))
        if stored not in file.shapes:
            raise InputError(f"model file {file.path}: {stored} for {name} is missing from it")
        if file.shapes[stored] != shape:
            raise InputError(
                f"model file {file.path}: tensor {stored} is {list(file.shapes[stored])}, by its metadata it would be"
                f" {list(shape)}"
            )
        names[name] = stored
    if unknown := sorted(set(file.shapes) - set(names.values()) - set(_OF_ROPE)):
        raise InputError(
            f"model file {file.path}: tensor {unknown[0]} is none that a {file.architecture} of its metadata has"
        )
    return names


def _as_hugging_face(tensor: torch.Tensor, name: str, architecture: str, config: ModelConfig) -> torch.Tensor:
    """Undoes what llama.cpp's converter does to a tensor: rows of heads in pairs, one added to Gemma's norms."""
    layer_part = name.rpartition(".")[0].rpartition(".")[2]
    if FAMILIES[architecture].pairs and layer_part in ("q_proj", "k_proj"):
        pairs: torch.Tensor = tensor.unflatten(0, (-1, config.head_dim // 2, 2))
        return pairs.transpose(1, 2).flatten(0, 2)
    if config.architecture.norm_offset and name.endswith("norm.weight"):
        return tensor.float() - config.architecture.norm_offset
    return tensor


def _tokenizer(file: GgufFile) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(file.path.parent, gguf_file=file.path.name)
    except Exception as error:  # the loaders raise many types
        raise InputError(
            f"model file {file.path}: its tokenizer cannot be read ({on_one_line(error)})"
        ) from error
