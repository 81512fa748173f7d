"""ModelConfig: what it reads from a Hugging Face folder, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tt_llm import InputError
from tt_llm.config import Experts, ModelConfig

Edit = Callable[..., Path]


@pytest.fixture
def edited(tiny: Any, tmp_path: Path) -> Edit:
    """edited(**changes): a folder with the tiny model's config.json, some entries changed (None: removed)."""

    def edit(**changes: Any) -> Path:
        config = json.loads((tiny("mha").folder / "config.json").read_text())
        config.update(changes)
        config = {name: value for name, value in config.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return edit


def test_sizes_are_those_of_the_model(each_tiny: Any) -> None:
    """Every size equals that of the Hugging Face model it was read from."""
    config, reference = ModelConfig.from_folder(each_tiny.folder), each_tiny.reference
    attention, mlp = reference.model.layers[0].self_attn, reference.model.layers[0].mlp
    assert (config.vocab_size, config.dim) == tuple(reference.model.embed_tokens.weight.shape)
    assert config.hidden_dim == mlp.gate_proj.out_features
    assert config.n_layers == len(reference.model.layers)
    assert config.n_heads * config.head_dim == attention.q_proj.out_features
    assert config.n_kv_heads * config.head_dim == attention.k_proj.out_features
    assert config.head_dim == attention.head_dim
    assert config.qkv_dim == sum(
        linear.out_features for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    assert config.norm_eps == reference.config.rms_norm_eps
    assert config.max_position == reference.config.max_position_embeddings
    assert config.eos_token_ids == (7,)
    assert config.name == each_tiny.folder.name


def test_rope_frequencies_are_those_of_transformers(each_tiny: Any) -> None:
    """Default and llama3 RoPE turn by the angles per position that transformers uses."""
    frequencies = ModelConfig.from_folder(each_tiny.folder).rope_frequencies()
    expected = each_tiny.reference.model.rotary_emb.inv_freq
    torch.testing.assert_close(frequencies, expected, rtol=1e-6, atol=0)


def test_rope_scaling_of_llama_3_is_that_of_transformers(edited: Edit) -> None:
    """At Llama 3.2's own figures, low, blended and high frequencies all equal transformers'."""
    from transformers import AutoConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    folder = edited(
        rope_parameters=None,
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        max_position_embeddings=131072,
    )
    config = ModelConfig.from_folder(folder)
    scaling = config.rope.scaling
    assert scaling is not None
    expected = LlamaRotaryEmbedding(AutoConfig.from_pretrained(folder)).inv_freq
    torch.testing.assert_close(config.rope_frequencies(), expected, rtol=1e-6, atol=0)
    plain = 1.0 / 500000.0 ** (torch.arange(0, 64, 2) / 64)
    ratio = plain / config.rope_frequencies()
    assert ratio.min() == 1.0
    assert ratio.max() == 32.0
    assert ((ratio > 1.001) & (ratio < 31.9)).any()


def test_n_layers_keeps_the_first_layers(tiny: Any) -> None:
    """n_layers gives a shorter model; all else stays."""
    folder = tiny("mha").folder
    whole, part = ModelConfig.from_folder(folder), ModelConfig.from_folder(folder, n_layers=1)
    assert (whole.n_layers, part.n_layers) == (2, 1)
    assert whole.dim == part.dim


@pytest.mark.parametrize(("given", "read"), [(5, (5,)), ([5, 9], (5, 9)), (None, ())])
def test_stop_tokens_may_be_one_many_or_none(edited: Edit, given: Any, read: tuple[int, ...]) -> None:
    """eos_token_id is a number, a list, or absent."""
    folder = edited(eos_token_id=given)
    if given is None:
        text = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(text | {"eos_token_id": None}))
    assert ModelConfig.from_folder(folder).eos_token_ids == read


@pytest.mark.parametrize("config", [{}, {"eos_token_id": 2}, {"eos_token_id": [2, 9]}], ids=str)
@pytest.mark.parametrize(
    "generation",
    [None, {}, {"eos_token_id": None}, {"eos_token_id": 7}, {"eos_token_id": [2, 7]}, {"bos_token_id": 1}],
    ids=str,
)
def test_generation_stops_where_transformers_does(
    make_tiny: Any, tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None
) -> None:
    """By generation_config.json alone where there is one, else by config.json."""
    from transformers import LlamaForCausalLM

    folder = Path(shutil.copytree(make_tiny(num_hidden_layers=1).folder, tmp_path / "copy"))
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | config))
    (folder / "generation_config.json").unlink()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    expected = LlamaForCausalLM.from_pretrained(folder).generation_config.eos_token_id
    listed = expected if isinstance(expected, list) else [] if expected is None else [expected]
    assert ModelConfig.from_folder(folder).eos_token_ids == tuple(listed)


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "</s>"}', '{"eos_token_id": [2, null]}'])
def test_a_generation_config_that_is_none_is_refused(edited: Edit, one_line: Any, text: str) -> None:
    """Rather than passed over."""
    folder = edited()
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(InputError) as caught:
        ModelConfig.from_folder(folder)
    assert any(word in one_line(caught.value) for word in ("generation_config.json", "eos_token_id"))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, ["quantization_config (fp8)", "dequantised copy"]),
        ({"compression_config": {"format": "int"}}, ["compression_config (of an unnamed method)"]),
        ({"transformers_weights": "a.safetensors"}, ["transformers_weights 'a.safetensors'"]),
        (
            {"architectures": ["BloomForCausalLM"]},
            ["architecture BloomForCausalLM", "only LlamaForCausalLM"],
        ),
        ({"architectures": ["MixtralForCausalLM"]}, ["num_local_experts"]),
        ({"architectures": None}, ["none named", "only LlamaForCausalLM"]),
        ({"model_type": "of_tomorrow"}, ["config.json", "of_tomorrow"]),
        ({"hidden_act": "relu2"}, ["hidden_act 'relu2'", "only silu"]),
        ({"n_shared_experts": 1}, ["n_shared_experts 1 is not supported"]),
        ({"mlp_only_layers": [0]}, ["mlp_only_layers [0] is not supported"]),
        ({"use_bidirectional_attention": True}, ["use_bidirectional_attention True is not supported"]),
        ({"qk_layernorm": True}, ["qk_layernorm True is not supported"]),
        ({"use_parallel_residual": True}, ["use_parallel_residual True is not supported"]),
        ({"layer_types": ["full_attention", "chunked_attention"]}, ["layer_types", "chunked_attention"]),
        (
            {"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4, "factor": 2.0}},
            ["'proportional'", "only default, linear, dynamic, llama3, yarn, longrope"],
        ),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, ["config.json", "low_freq_factor"]),
        ({"hidden_size": 100}, ["hidden_size 100", "multiple of 32"]),
        ({"head_dim": 45}, ["head_dim", "45"]),
        (
            {"num_attention_heads": 4, "num_key_value_heads": 3},
            ["4 attention heads", "3 key-value heads"],
        ),
        ({"num_attention_heads": 3}, ["config.json", "128", "3"]),
        ({"num_hidden_layers": "2"}, ["config.json", "num_hidden_layers", "'2'"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_run_is_refused_in_one_line(
    edited: Edit, one_line: Any, changes: dict[str, Any], parts: list[str]
) -> None:
    """A config this model code does not run is named with its value and what would be right."""
    folder = edited(**changes)
    with pytest.raises(InputError) as caught:
        ModelConfig.from_folder(folder)
    message = one_line(caught.value)
    assert str(folder) in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"decoder_sparse_step": 2}, "decoder_sparse_step 2 is not supported"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok 9: there are 8 experts"),
        ({"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size 64 is not supported"),
    ],
)
def test_a_mixture_that_cannot_run_is_refused(
    edited: Edit, one_line: Any, changes: dict[str, Any], part: str
) -> None:
    """Experts in some layers only, or ones that every token goes to: the field is named."""
    mixture = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 8}
    folder = edited(**mixture, **changes)
    with pytest.raises(InputError) as caught:
        ModelConfig.from_folder(folder)
    assert part in one_line(caught.value)


def test_a_mixture_is_as_wide_as_all_its_experts(edited: Edit) -> None:
    """The sizes of Qwen3Moe: 8 experts of 96, of which two are taken, by their share of all."""
    mixture = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 8}
    folder = edited(**mixture, num_experts_per_tok=2, moe_intermediate_size=96)
    config = ModelConfig.from_folder(folder)
    assert config.hidden_dim == 8 * 96
    assert config.architecture.experts == Experts("qwen", 8, 2, share_of_all=True)


@pytest.mark.parametrize("n_layers", [0, -1, 3])
def test_a_bad_number_of_layers_is_refused(tiny: Any, one_line: Any, n_layers: int) -> None:
    """n_layers must lie between 1 and what the model has."""
    with pytest.raises(InputError) as caught:
        ModelConfig.from_folder(tiny("mha").folder, n_layers)
    assert one_line(caught.value) == f"n_layers {n_layers}: the model has 1 to 2 layers"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", None])
def test_a_broken_config_is_refused(tmp_path: Path, one_line: Any, content: str | None) -> None:
    """A config.json that is absent, empty, or no JSON object is one line."""
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json cannot be read") as caught:
        ModelConfig.from_folder(tmp_path)
    assert str(tmp_path) in one_line(caught.value)
