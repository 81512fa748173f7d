"""A GGUF as llama.cpp makes it of a Hugging Face Llama, read back as that Llama."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tt_llm import InputError
from tt_llm.checkpoint import Checkpoint, locate
from tt_llm.config import ModelConfig
from tt_llm.conversion.gguf_families import llama3_scaling
from tt_llm.rope_types import RopeScaling, rope_frequencies, rope_multipliers

VOCABULARY = 96
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
Made = tuple[Path, LlamaForCausalLM]
Maker = Callable[..., Made]


def gguf_name(name: str) -> str:
    top = {
        "model.embed_tokens.weight": "token_embd",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    if name in top:
        return f"{top[name]}.weight"
    _, _, layer, inner = name.split(".", 3)
    module, _, part = inner.rpartition(".")
    return f"blk.{layer}.{NAMES[module]}.{part}"


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head from halves to pairs, the order that llama.cpp rotates in."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """make(config settings, fields to add or, with None, to leave out, tensors to add): the file, and the model it is of."""
    monkeypatch.setenv("TT_HARNESS_CACHE", str(tmp_path / "cache"))

    def made(
        fields: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor] | None = None, **config: Any
    ) -> Made:
        sizes: dict[str, Any] = {
            "hidden_size": 128,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.2,
            "eos_token_id": 2,
            "bos_token_id": 1,
            "tie_word_embeddings": False,
        }
        torch.manual_seed(0)
        hf = LlamaConfig(**sizes | config)
        model = LlamaForCausalLM(hf).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.uniform_(parameter, -1.0, 1.0)
        values: dict[str, Any] = {
            "llama.block_count": hf.num_hidden_layers,
            "llama.context_length": hf.max_position_embeddings,
            "llama.embedding_length": hf.hidden_size,
            "llama.feed_forward_length": hf.intermediate_size,
            "llama.attention.head_count": hf.num_attention_heads,
            "llama.attention.head_count_kv": hf.num_key_value_heads,
            "llama.attention.layer_norm_rms_epsilon": hf.rms_norm_eps,
            "llama.attention.key_length": hf.head_dim,
            "llama.attention.value_length": hf.head_dim,
            "llama.rope.dimension_count": hf.head_dim,
            "llama.rope.freq_base": float(hf.rope_parameters["rope_theta"]),
            "llama.vocab_size": hf.vocab_size,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.bos_token_id": 1,
        }
        if (kind := hf.rope_parameters["rope_type"]) in ("linear", "yarn"):
            values |= {
                "llama.rope.scaling.type": kind,
                "llama.rope.scaling.factor": hf.rope_parameters["factor"],
                "llama.rope.scaling.original_context_length": 128 if kind == "yarn" else None,
            }
        values |= fields or {}
        path = tmp_path / "small.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        for name, value in values.items():
            if isinstance(value, (str, bool)):
                (writer.add_bool if isinstance(value, bool) else writer.add_string)(name, value)
            elif value is not None:
                (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(name, value)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b", "ab", *(f"t{i}" for i in range(3, VOCABULARY))])
        writer.add_token_merges(["a b"])
        writer.add_token_types([1] * VOCABULARY)
        stored = dict(model.state_dict())
        if hf.tie_word_embeddings:
            del stored["lm_head.weight"]
        for name, tensor in stored.items():
            heads = {"q_proj": hf.num_attention_heads, "k_proj": hf.num_key_value_heads}.get(
                name.split(".")[-2]
            )
            writer.add_tensor(
                gguf_name(name), (permuted(tensor, heads) if heads else tensor).contiguous().numpy()
            )
        extra = dict(tensors or {})
        if hf.rope_parameters["rope_type"] == "llama3":
            extra["rope_freqs.weight"] = divisors(hf)
        for name, tensor in extra.items():
            writer.add_tensor(name, tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path, model

    return made


def divisors(hf: Any) -> torch.Tensor:
    """The tensor of llama.cpp, from Hugging Face's own frequencies."""
    plain = rope_frequencies(hf.head_dim, hf.rope_parameters["rope_theta"])
    return plain / LlamaForCausalLM(hf).model.rotary_emb.inv_freq


def same(made: Made) -> Path:
    """Checks that the converted folder is the model, by config, weights and logits; the folder."""
    path, model = made
    folder = locate(str(path))
    read, info = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    tokens = torch.arange(VOCABULARY)[None, :].repeat(1, 4)  # long enough for scaled angles to matter
    with torch.no_grad():
        torch.testing.assert_close(read.eval()(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-4)
    config, weights = ModelConfig.from_folder(folder), Checkpoint(folder)
    weights.check(config)
    torch.testing.assert_close(config.rope_frequencies(), model.model.rotary_emb.inv_freq, rtol=1e-6, atol=0)
    for name in ("hidden_size", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings"):
        assert getattr(read.config, name) == getattr(model.config, name), name
    assert read.config.max_position_embeddings == model.config.max_position_embeddings
    assert np.float32(read.config.rms_norm_eps) == np.float32(model.config.rms_norm_eps)
    return folder


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 2},
        {"head_dim": 32},  # narrower than dim / heads
        {"head_dim": 128},
        {"rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
        {"rope_parameters": YARN},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": LLAMA3},
        {"rope_parameters": LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 64}, "head_dim": 32},
    ],
    ids=str,
)
def test_a_gguf_is_its_source(make: Maker, config: dict[str, Any]) -> None:
    """Weights, RoPE, widths, ties and limits."""
    same(make(**config))


def test_llama3s_scaling_is_in_the_config_as_its_source_has_it(make: Maker) -> None:
    """Not only the frequencies: factor, limits and original length."""
    scaling = ModelConfig.from_folder(same(make(rope_parameters=LLAMA3))).rope.scaling
    assert scaling == RopeScaling(32.0, 1.0, 4.0, 8192)


@pytest.mark.parametrize(
    "left_out",
    [
        ("llama.attention.key_length", "llama.attention.value_length"),
        ("llama.rope.dimension_count",),
        ("llama.vocab_size",),
        ("llama.attention.key_length", "llama.attention.value_length", "llama.rope.dimension_count"),
    ],
    ids=str,
)
def test_what_follows_from_the_rest_may_be_left_out(make: Maker, left_out: tuple[str, ...]) -> None:
    """As older converters do."""
    same(make(dict.fromkeys(left_out)))


def test_without_a_number_of_key_value_heads_there_are_as_many_as_query_heads(make: Maker) -> None:
    """Their rows are brought back to Hugging Face's order as those of grouped heads are."""
    same(make({"llama.attention.head_count_kv": None}, num_key_value_heads=2))


@pytest.mark.parametrize("rows", [VOCABULARY, VOCABULARY + 32])
def test_the_vocabulary_is_the_tables(make: Maker, rows: int) -> None:
    """A table that was padded has more rows than there are tokens."""
    same(make({"llama.vocab_size": None}, vocab_size=rows))


@pytest.mark.parametrize(
    ("fields", "stops"),
    [
        ({}, (2,)),
        ({"tokenizer.ggml.eot_token_id": 2}, (2,)),
        ({"tokenizer.ggml.eot_token_id": 7}, (2, 7)),
        ({"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 9}, (2, 7, 9)),
    ],
    ids=str,
)
def test_every_end_of_a_text_ends_it(make: Maker, fields: dict[str, Any], stops: tuple[int, ...]) -> None:
    """Of a turn and of a message too, for transformers and for the device."""
    folder = same(make(fields))
    assert ModelConfig.from_folder(folder).eos_token_ids == stops
    try:
        read = GenerationConfig.from_pretrained(folder)
    except OSError:
        read = GenerationConfig.from_pretrained(folder, config_file_name="config.json")
    assert read.eos_token_id == (list(stops) if len(stops) > 1 else stops[0])


@pytest.mark.parametrize(
    ("fields", "tensors", "says"),
    [
        ({"llama.rope.scaling.type": "su", "llama.rope.scaling.factor": 4.0}, {}, "'su' by 4"),
        (
            {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0},
            {},
            "it does not say rope.scaling.original_context_length",
        ),
        ({"llama.rope.scaling.attn_factor": 1.5}, {}, "rope.scaling.attn_factor 1.5"),
        ({"llama.attention.sliding_window": 64}, {}, "llama.attention.sliding_window 64"),
        ({"llama.expert_count": 8}, {}, "llama.expert_count 8"),
        ({"llama.attention.head_count": "two"}, {}, "llama.attention.head_count is 'two', not one number"),
        (
            {"llama.attention.head_count": 0},
            {},
            "llama.attention.head_count is 0, not a whole number above 0",
        ),
        ({"llama.embedding_length": 96}, {}, "is [96, 128], by its metadata it would be [96, 96]"),
        ({"split.count": 3}, {}, "one of 3 parts"),
        ({"llama.rope.dimension_count": 32}, {}, "rope.dimension_count is 32"),
        ({"llama.attention.value_length": 32}, {}, "value_length is 32"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, {}, "llama.attention.layer_norm_rms_epsilon"),
        ({"llama.context_length": None}, {}, "llama.context_length"),
        ({}, {"blk.0.attn_q.bias": torch.ones(128)}, "blk.0.attn_k.bias for"),
        ({}, {"blk.1.ffn_gate_exps.weight": torch.ones(2, 64, 128)}, "blk.1.ffn_gate_exps.weight"),
        ({}, {"rope_factors_long.weight": torch.ones(32)}, "rope_factors_short.weight"),
        ({}, {"rope_freqs.weight": torch.ones(16)}, "16 numbers, its heads have 32 pairs"),
        ({}, {"rope_freqs.weight": torch.linspace(1, 2, 32)}, "not of Llama 3's scaling"),
        ({"llama.block_count": 1}, {}, "blk.1.attn_k.weight"),
        ({"llama.block_count": 3}, {}, "model.layers.2.self_attn.o_proj.weight is missing"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_is_not_understood_is_refused(
    make: Maker, one_line: Any, fields: dict[str, Any], tensors: dict[str, torch.Tensor], says: str
) -> None:
    """In a line that names it, rather than left out."""
    path, _ = make(fields, tensors)
    with pytest.raises(InputError) as caught:
        locate(str(path))
    assert says in one_line(caught.value)


def test_scaling_that_changes_nothing_is_none(make: Maker) -> None:
    """Linear by 1, of no type, and divisors of one."""
    for fields, tensors in (
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0}, {}),
        ({"llama.rope.scaling.type": "none"}, {}),
        ({}, {"rope_freqs.weight": torch.ones(32)}),
    ):
        folder = same(make(fields, tensors))
        assert ModelConfig.from_folder(folder).rope.scaling is None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    head_dim=st.sampled_from([32, 64, 96, 128, 256]),
    theta=st.sampled_from([10000.0, 100000.0, 500000.0, 1000000.0]),
    factor=st.sampled_from([2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 5.5]),
    length=st.sampled_from([64, 1024, 2048, 4096, 8192, 16384, 131072]),
)
def test_any_scaling_of_llama3_is_found_in_its_divisors(
    head_dim: int, theta: float, factor: float, length: int
) -> None:
    """With the same frequencies, whatever the length it names."""
    plain = rope_frequencies(head_dim, theta)
    expected = rope_multipliers(plain, RopeScaling(factor, 1.0, 4.0, length))
    found = llama3_scaling((1 / expected).float(), theta)
    actual = torch.ones_like(plain) if found is None else rope_multipliers(plain, found)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=0)
