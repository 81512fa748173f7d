"""The shape of a Llama-like model, read once from its Hugging Face config."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from tt_llm.errors import InputError, on_one_line

SUPPORTED_ARCHITECTURES = ("LlamaForCausalLM",)
QUANTIZED = ("quantization_config", "compression_config")  # in a config.json
TILE = 32  # ttnn computes on tiles of 32 x 32


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's frequency scaling (Hugging Face `rope_type` "llama3"); lengths in tokens."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position: int


def rope_frequencies(head_dim: int, theta: float) -> torch.Tensor:
    """theta^(-2i/d) as in RoFormer (arXiv:2104.09864): [head_dim / 2], float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return 1.0 / (theta**exponents)


def rope_multipliers(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """What Llama 3's scaling multiplies each frequency by, as in its report (arXiv:2407.21783) and Hugging Face's "llama3".

    Long wavelengths are divided by `factor`, the band between the two limits is blended.
    """
    wavelength = 2 * math.pi / frequencies
    blend = (scaling.original_max_position / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    blend = blend.clamp(0.0, 1.0)
    return blend + (1 - blend) / scaling.factor


@dataclass(frozen=True)
class ModelConfig:
    """Sizes in elements; `dim` is the width of the residual, `hidden_dim` that of the MLP."""

    name: str
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    max_position: int
    eos_token_ids: tuple[int, ...]
    tied_embeddings: bool = True  # whether the LM head may be the embedding's table

    @classmethod
    def from_folder(cls, folder: Path, n_layers: int | None = None) -> ModelConfig:
        """Reads `config.json` of a Hugging Face folder; `n_layers` keeps only the first layers.

        Raises InputError for an architecture, a RoPE type, a width or a layer count this model code does not run.
        """
        try:
            hf = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError, KeyError, StrictDataclassError) as error:
            raise InputError(
                f"model {folder}: its config.json cannot be read ({on_one_line(error)})"
            ) from error
        architecture = (getattr(hf, "architectures", None) or ["none named"])[0]
        if architecture not in SUPPORTED_ARCHITECTURES:
            supported = ", ".join(SUPPORTED_ARCHITECTURES)
            raise InputError(
                f"model {folder}: architecture {architecture} is not supported, only {supported}"
            )
        for bias in ("attention_bias", "mlp_bias"):
            if getattr(hf, bias, False):
                raise InputError(
                    f"model {folder}: {bias} is set; linear layers with a bias are not supported"
                )
        if hf.hidden_act != "silu":
            raise InputError(f"model {folder}: hidden_act {hf.hidden_act!r} is not supported, only silu")
        if n_layers is not None and not 1 <= n_layers <= hf.num_hidden_layers:
            raise InputError(f"n_layers {n_layers}: the model has 1 to {hf.num_hidden_layers} layers")
        _refuse_quantized(hf, folder)
        theta, scaling = _rope(hf, folder)
        config = cls(
            name=Path(folder).name,
            dim=hf.hidden_size,
            hidden_dim=hf.intermediate_size,
            n_layers=n_layers or hf.num_hidden_layers,
            n_heads=hf.num_attention_heads,
            n_kv_heads=hf.num_key_value_heads,
            head_dim=getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads,
            vocab_size=hf.vocab_size,
            norm_eps=hf.rms_norm_eps,
            rope_theta=theta,
            rope_scaling=scaling,
            max_position=hf.max_position_embeddings,
            eos_token_ids=_eos_token_ids(hf, folder),
            tied_embeddings=bool(hf.tie_word_embeddings),
        )
        config._check_widths(folder)
        return config

    @property
    def qkv_dim(self) -> int:
        """Width of the fused query, key and value projection."""
        return (self.n_heads + 2 * self.n_kv_heads) * self.head_dim

    def rope_frequencies(self) -> torch.Tensor:
        """Angle per position of each pair of a head: [head_dim / 2], float32, radians."""
        frequencies = rope_frequencies(self.head_dim, self.rope_theta)
        if self.rope_scaling is None:
            return frequencies
        return frequencies * rope_multipliers(frequencies, self.rope_scaling)

    def _check_widths(self, folder: Path) -> None:
        for name, width in (
            ("hidden_size", self.dim),
            ("intermediate_size", self.hidden_dim),
            ("head_dim", self.head_dim),
        ):
            if width < 1 or width % TILE:
                raise InputError(
                    f"model {folder}: {name} {width} is not a multiple of {TILE}, a tile's width"
                )
        if self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads:
            raise InputError(
                f"model {folder}: {self.n_heads} attention heads cannot share {self.n_kv_heads} key-value heads evenly"
            )


def _refuse_quantized(hf: Any, folder: Path) -> None:
    # Hugging Face would dequantise some of them for the golden; the device takes weights as they are.
    if getattr(hf, "transformers_weights", None):
        raise InputError(
            f"model {folder}: its config.json names its weights, transformers_weights {hf.transformers_weights!r}: give"
            " them the usual names, and leave that out"
        )
    for name in QUANTIZED:
        settings = getattr(hf, name, None)
        if settings:
            method = (
                settings.get("quant_method") if isinstance(settings, dict) else None
            ) or "of an unnamed method"
            raise InputError(
                f"model {folder}: its config.json has a {name} ({method}); quantised weights are not supported,"
                " give the model before it was quantised or a dequantised copy"
            )


def _eos_token_ids(hf: Any, folder: Path) -> tuple[int, ...]:
    """The tokens that end a generation: transformers asks generation_config.json where there is one, else config.json."""
    file, value = folder / "generation_config.json", hf.eos_token_id
    if file.is_file():
        try:
            value = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"model {folder}: its {file.name} cannot be read ({on_one_line(error)})"
            ) from error
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token in ids:
        if not isinstance(token, int) or isinstance(token, bool):
            raise InputError(
                f"model {folder}: eos_token_id {value!r}: give a token's number, or a list of them"
            )
    return tuple(ids)


def _rope(hf: Any, folder: Path) -> tuple[float, RopeScaling | None]:
    # transformers 5 keeps theta and scaling in `rope_parameters`, 4 in `rope_theta` and `rope_scaling`.
    parameters: dict[str, Any] = (
        getattr(hf, "rope_parameters", None) or getattr(hf, "rope_scaling", None) or {}
    )
    theta = float(parameters.get("rope_theta", getattr(hf, "rope_theta", 10000.0)))
    kind = parameters.get("rope_type", "default")
    if kind == "default":
        return theta, None
    if kind == "llama3":
        return theta, RopeScaling(
            factor=float(parameters["factor"]),
            low_freq_factor=float(parameters["low_freq_factor"]),
            high_freq_factor=float(parameters["high_freq_factor"]),
            original_max_position=int(parameters["original_max_position_embeddings"]),
        )
    raise InputError(f"model {folder}: rope_type {kind!r} is not supported, only default and llama3")
