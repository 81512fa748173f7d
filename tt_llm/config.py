"""The shape and the architecture of a decoder-only model, read once from its Hugging Face config."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn.functional import pad
from transformers import AutoConfig

from tt_llm.errors import InputError, on_one_line
from tt_llm.rope_types import RopeSettings, read_rope

QUANTIZED = ("quantization_config", "compression_config")  # in a config.json
TILE = 32  # ttnn computes on tiles of 32 x 32


@dataclass(frozen=True)
class LayerKind:
    """What layers differ in: how they turn queries and keys (None: not at all), and how many positions they see, their own included."""

    rope: RopeSettings | None
    window: int | None = None


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in the place of the MLP: of `count` MLPs a router chooses `per_token` for each token, and weighs them.

    `share_of_all`: an expert's weight is its part of the softmax over all experts; else over the chosen ones, which add up to 1.
    """

    stored: Literal["mixtral", "qwen", "gpt_oss"]  # under whose names the checkpoint has them
    count: int
    per_token: int
    share_of_all: bool = False

    @property
    def biased(self) -> bool:
        """Whether the router and all projections have a bias."""
        return self.stored == "gpt_oss"

    @property
    def padded_count(self) -> int:
        """As many in whole tiles; those beyond `count` are never chosen."""
        return -(-self.count // TILE) * TILE


@dataclass(frozen=True)
class Architecture:
    """What a decoder layer has. The defaults are a Llama's."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    fused: bool = False  # in the checkpoint: `qkv_proj`, and `gate_up_proj`
    qk_norm: Literal["none", "head", "all"] = "none"  # of each head, or of all heads together
    norms: Literal["pre", "post", "sandwich"] = "pre"  # before attention and MLP, behind them, or both
    layer_norm: bool = False  # LayerNorm with a bias in place of RMSNorm
    norm_offset: float = 0.0  # what is added to a norm's weight
    activation: Literal["silu", "gelu", "gelu_tanh"] = "silu"  # of the gate
    embedding_scale: float = 1.0
    residual_scale: float = 1.0  # of what attention and MLP add to the residual
    attention_scale: float | None = None  # of the scores; None: head_dim ** -0.5
    attention_softcap: float | None = None  # c: scores are c * tanh(scores / c)
    logit_scale: float = 1.0
    logit_softcap: float | None = None  # likewise
    experts: Experts | None = None
    layers: tuple[LayerKind, ...] = ()  # of each; empty: all turn by the config's `rope` and see everything


# What a family has whatever its config says; the rest is read from it.
FAMILIES = {
    "LlamaForCausalLM": Architecture(),
    "Qwen2ForCausalLM": Architecture(qkv_bias=True),
    "Qwen3ForCausalLM": Architecture(qk_norm="head"),
    "MistralForCausalLM": Architecture(),
    "Phi3ForCausalLM": Architecture(fused=True),
    "StableLmForCausalLM": Architecture(layer_norm=True),
    "GraniteForCausalLM": Architecture(),
    "Olmo2ForCausalLM": Architecture(qk_norm="all", norms="post"),
    "SmolLM3ForCausalLM": Architecture(),
    "MixtralForCausalLM": Architecture(),
    "Qwen3MoeForCausalLM": Architecture(qk_norm="head"),
    "Gemma2ForCausalLM": Architecture(norms="sandwich", norm_offset=1.0),
    "Gemma3ForCausalLM": Architecture(qk_norm="head", norms="sandwich", norm_offset=1.0),
}
# Of architectures with a mixture of experts, whose names their checkpoints have.
MIXTURES: dict[str, Literal["mixtral", "qwen", "gpt_oss"]] = {
    "MixtralForCausalLM": "mixtral",
    "Qwen3MoeForCausalLM": "qwen",
}
SCALED_EMBEDDING = ("gemma2", "gemma3_text")  # model types whose embedding is multiplied by sqrt(dim)
ACTIVATIONS: dict[str, Literal["silu", "gelu", "gelu_tanh"]] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# Fields of a config that must be false: what they ask for is not there.
UNSUPPORTED = (
    *("qk_layernorm", "use_parallel_residual", "use_bidirectional_attention"),
    # Layers without experts among those with them, and experts that every token goes to.
    *("mlp_only_layers", "shared_expert_intermediate_size", "n_shared_experts", "num_shared_experts"),
)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes in elements; `dim` is the width of the residual, `hidden_dim` that of the MLP, or of all experts side by side."""

    name: str
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    norm_eps: float
    rope: RopeSettings
    max_position: int
    eos_token_ids: tuple[int, ...]
    tied_embeddings: bool = True  # whether the LM head may be the embedding's table
    architecture: Architecture = Architecture()

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
        if architecture not in FAMILIES:
            supported = ", ".join(FAMILIES)
            raise InputError(
                f"model {folder}: architecture {architecture} is not supported, only {supported}"
            )
        if n_layers is not None and not 1 <= n_layers <= hf.num_hidden_layers:
            raise InputError(f"n_layers {n_layers}: the model has 1 to {hf.num_hidden_layers} layers")
        _refuse_quantized(hf, folder)
        rope = _rope(hf, folder)
        built = _architecture(hf, architecture, rope, folder)
        one = getattr(hf, "moe_intermediate_size", None) or hf.intermediate_size
        config = cls(
            name=Path(folder).name,
            dim=hf.hidden_size,
            hidden_dim=one * built.experts.count if built.experts else hf.intermediate_size,
            n_layers=n_layers or hf.num_hidden_layers,
            n_heads=hf.num_attention_heads,
            n_kv_heads=hf.num_key_value_heads,
            head_dim=getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads,
            vocab_size=hf.vocab_size,
            norm_eps=hf.layer_norm_eps if FAMILIES[architecture].layer_norm else hf.rms_norm_eps,
            rope=rope,
            max_position=min(hf.max_position_embeddings, rope.longest or hf.max_position_embeddings),
            eos_token_ids=_eos_token_ids(hf, folder),
            tied_embeddings=bool(hf.tie_word_embeddings),
            architecture=built,
        )
        config._check_widths(folder)
        return config

    @property
    def qkv_dim(self) -> int:
        """Width of the fused query, key and value projection."""
        return (self.n_heads + 2 * self.n_kv_heads) * self.head_dim

    @property
    def rotary_dim(self) -> int:
        """Elements of a head that turn, the first ones."""
        return self.rope.rotary_dim or self.head_dim

    @property
    def attention_scale(self) -> float:
        """What scores are multiplied by."""
        return self.architecture.attention_scale or self.head_dim**-0.5

    def layer_kind(self, layer: int) -> LayerKind:
        """What that layer has."""
        return self.architecture.layers[layer] if self.architecture.layers else LayerKind(self.rope)

    def rope_frequencies(self, rope: RopeSettings | None = None) -> torch.Tensor:
        """Angle per position of each pair of a head: [head_dim / 2], float32, radians; zero for those that do not turn.

        `rope` is a layer's; default: the config's own.
        """
        frequencies = (rope or self.rope).frequencies(self.head_dim)
        return pad(frequencies, (0, self.head_dim // 2 - len(frequencies)))

    def _check_widths(self, folder: Path) -> None:
        for name, width, multiple in (
            ("hidden_size", self.dim, TILE),  # a tile's width: of whole ones are norms
            ("intermediate_size", self.hidden_dim, 1),
            ("head_dim", self.head_dim, 2),  # RoPE turns pairs
        ):
            if width < 1 or width % multiple:
                raise InputError(f"model {folder}: {name} {width} is not a multiple of {multiple}")
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


def _architecture(hf: Any, name: str, rope: RopeSettings, folder: Path) -> Architecture:
    for field in UNSUPPORTED:
        if getattr(hf, field, None):
            raise InputError(f"model {folder}: {field} {getattr(hf, field)!r} is not supported")
    field = "hidden_activation" if hasattr(hf, "hidden_activation") else "hidden_act"
    activation = getattr(hf, field)
    if activation not in ACTIVATIONS:
        raise InputError(
            f"model {folder}: {field} {activation!r} is not supported, only {', '.join(ACTIVATIONS)}"
        )
    family = FAMILIES[name]
    bias = bool(getattr(hf, "attention_bias", False))
    query_scale = getattr(hf, "query_pre_attn_scalar", None)
    return replace(
        family,
        qkv_bias=family.qkv_bias or bias or bool(getattr(hf, "use_qkv_bias", False)),
        o_bias=bias,
        mlp_bias=bool(getattr(hf, "mlp_bias", False)),
        activation=ACTIVATIONS[activation],
        embedding_scale=hf.hidden_size**0.5
        if hf.model_type in SCALED_EMBEDDING
        else float(getattr(hf, "embedding_multiplier", 1.0)),
        residual_scale=float(getattr(hf, "residual_multiplier", 1.0)),
        attention_scale=query_scale**-0.5 if query_scale else getattr(hf, "attention_multiplier", None),
        attention_softcap=getattr(hf, "attn_logit_softcapping", None),
        logit_scale=1.0 / getattr(hf, "logits_scaling", 1.0),
        logit_softcap=getattr(hf, "final_logit_softcapping", None),
        experts=_experts(hf, MIXTURES[name], folder) if name in MIXTURES else None,
        layers=_layers(hf, rope, folder),
    )


def _experts(hf: Any, stored: Literal["mixtral", "qwen", "gpt_oss"], folder: Path) -> Experts:
    step = getattr(hf, "decoder_sparse_step", 1)
    if step != 1:
        raise InputError(
            f"model {folder}: decoder_sparse_step {step} is not supported, only 1: experts in every layer"
        )
    count = getattr(hf, "num_local_experts", None)
    if not count:
        raise InputError(
            f"model {folder}: its config.json has no num_local_experts, which its architecture needs"
        )
    per_token = hf.num_experts_per_tok
    if not 1 <= per_token <= count:
        raise InputError(f"model {folder}: num_experts_per_tok {per_token}: there are {count} experts")
    return Experts(stored, count, per_token, share_of_all=not getattr(hf, "norm_topk_prob", True))


def _layers(hf: Any, rope: RopeSettings, folder: Path) -> tuple[LayerKind, ...]:
    """Of each layer; () where all are alike and see everything."""
    window = getattr(hf, "sliding_window", None)
    every = "sliding_attention" if window else "full_attention"
    types = getattr(hf, "layer_types", None) or [every] * hf.num_hidden_layers
    turns = getattr(hf, "no_rope_layers", None) or [1] * hf.num_hidden_layers
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise InputError(
                f"model {folder}: layer_types has {kind!r}, only full_attention and sliding_attention are supported"
            )
    local = _rope(hf, folder, "sliding_attention")
    layers = tuple(
        LayerKind((local if sliding else rope) if turning else None, window if sliding else None)
        for sliding, turning in zip((kind == "sliding_attention" for kind in types), turns, strict=True)
    )
    return () if all(layer == LayerKind(rope) for layer in layers) else layers


def _rope(hf: Any, folder: Path, layer_type: str = "full_attention") -> RopeSettings:
    # transformers 5 keeps theta and scaling in `rope_parameters`, 4 in `rope_theta` and `rope_scaling`; Gemma 3 for each type
    # of layer.
    parameters: dict[str, Any] = (
        getattr(hf, "rope_parameters", None) or getattr(hf, "rope_scaling", None) or {}
    )
    parameters = parameters.get(layer_type, parameters)
    theta = float(parameters.get("rope_theta", getattr(hf, "rope_theta", 10000.0)))
    head_dim = getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads
    rotary_dim = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    try:
        return read_rope(
            # Of a head that is no whole tiles, what turns is told from what is padded.
            parameters,
            theta,
            rotary_dim if rotary_dim < head_dim or head_dim % TILE else None,
            hf.max_position_embeddings,
        )
    except KeyError as missing:
        raise InputError(f"model {folder}: its rope_parameters lack {missing.args[0]}") from missing
    except ValueError as error:
        raise InputError(f"model {folder}: {error}") from error
