"""Every family's GGUF, written as llama.cpp's converter writes it, is its safetensors source: weights, logits, config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from tests.tt_llm.families import FAMILIES, make_family
from tt_llm import InputError
from tt_llm.checkpoint import Checkpoint, locate
from tt_llm.config import ModelConfig

# What llama.cpp calls a layer's modules, of families that have them before attention and MLP, behind them, or both.
LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
PRE = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
POST = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
SANDWICH = POST | {"input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm"}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
# Of each row of `families.FAMILIES`: llama.cpp's name, and the names of its norms.
ROWS: dict[str, tuple[str, dict[str, str]]] = {
    "llama": ("llama", PRE),
    "llama_bias": ("llama", PRE),
    "qwen2": ("qwen2", PRE),
    "qwen3": ("qwen3", PRE),
    "mistral": ("llama", PRE),
    "phi3": ("phi3", PRE),
    "phi4_mini": ("phi3", PRE),
    "stablelm": ("stablelm", PRE),
    "granite": ("granite", PRE),
    "olmo2": ("olmo2", POST),
    "smollm3": ("smollm3", PRE),
    "gemma2": ("gemma2", SANDWICH),
    "gemma3": ("gemma3", SANDWICH),
    "linear_rope": ("llama", PRE),
    "yarn_rope": ("llama", PRE),
}
# What a GGUF cannot say of a row's config, as llama.cpp has it in its code.
GIVEN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "phi4_mini": {"original_max_position_embeddings": 256},
    "smollm3": {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]},
    "gemma2": {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 50.0},
    "gemma3": {
        "query_pre_attn_scalar": 128,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
}
GIVEN = {name: {"vocab_size": 192} | GIVEN.get(name, {}) for name in ROWS}
PAIRS = ("llama", "granite", "smollm3")


def stored_name(name: str, norms: dict[str, str]) -> str:
    module, _, part = name.rpartition(".")
    if module in TOP:
        return f"{TOP[module]}.{part}"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{(LINEARS | norms)[inner]}.{part}"


def metadata(config: Any, architecture: str) -> dict[str, Any]:
    """What llama.cpp's converter says of the family, without the architecture before each name."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    said: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        "vocab_size": config.vocab_size,
    }
    if architecture == "stablelm":
        said |= {"attention.layer_norm_epsilon": config.layer_norm_eps, "use_parallel_residual": False}
    else:
        said["attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
    if architecture in ("llama", "qwen3", "gemma2", "gemma3"):
        said |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if architecture in ("gemma2", "gemma3", "phi3"):
        said["attention.sliding_window"] = config.sliding_window or 0
    if architecture == "gemma2":
        said["final_logit_softcapping"] = config.final_logit_softcapping
        said["attn_logit_softcapping"] = config.attn_logit_softcapping or 0.0
    if architecture == "granite":
        said |= {
            "attention.scale": config.attention_multiplier,
            "embedding_scale": config.embedding_multiplier,
            "residual_scale": config.residual_multiplier,
            "logit_scale": config.logits_scaling,
        }
    if rope["rope_type"] in ("linear", "yarn"):
        said |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] == "longrope":
        factor = config.max_position_embeddings / rope["original_max_position_embeddings"]
        length = rope["original_max_position_embeddings"]
        said["rope.scaling.attn_factor"] = float(np.sqrt(1 + np.log(factor) / np.log(length)))
    if "original_max_position_embeddings" in rope:
        said["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    return said


def write_gguf(path: Path, model: Any, row: str, kind: Any = gguf.GGMLQuantizationType.F32) -> None:
    """The converter's work: names, metadata, rows of heads in pairs, one added to Gemma's norms; matrices as `kind`."""
    architecture, norms = ROWS[row]
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in metadata(config, architecture).items():
        if isinstance(value, str):
            writer.add_string(f"{architecture}.{name}", value)
        elif isinstance(value, bool):
            writer.add_bool(f"{architecture}.{name}", value)
        elif value is not None:
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(f"{architecture}.{name}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a", "b", "ab", *(f"t{i}" for i in range(3, config.vocab_size))])
    writer.add_token_merges(["a b"])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_eos_token_id(7)
    if architecture == "phi3":  # the default of its config class lies beyond this vocabulary
        writer.add_pad_token_id(0)
    rope = config.rope_parameters
    if rope.get("rope_type") == "longrope":
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.float32(rope[f"{name}_factor"]))
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        module = name.split(".")[-2]
        if architecture in PAIRS and module in heads:
            tensor = tensor.unflatten(0, (heads[module], 2, -1)).transpose(1, 2).flatten(0, 2)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor + 1
        data, as_kind = tensor.contiguous().numpy(), gguf.GGMLQuantizationType.F32
        if tensor.dim() == 2:
            data, as_kind = gguf.quantize(data, kind), kind
        writer.add_tensor(stored_name(name, norms), data, raw_dtype=as_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_HARNESS_CACHE", str(tmp_path / "cache"))


def made(folder: Path, row: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """The random model of a row, with what a GGUF can say."""
    kind, own = FAMILIES[row]
    monkeypatch.setitem(FAMILIES, row, (kind, own | GIVEN[row] | more))
    return make_family(folder, row)


@pytest.mark.parametrize("row", ROWS)
def test_a_gguf_is_its_source(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights bit for bit but for Gemma's norms, which have one added; what the config says; the same logits."""
    model = made(tmp_path / "source", row, monkeypatch)
    write_gguf(tmp_path / "model.gguf", model, row)
    folder = locate(str(tmp_path / "model.gguf"))
    read, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert row == "mistral" or type(read) is type(model)
    for name, tensor in model.state_dict().items():
        tolerance = 1e-6 if row.startswith("gemma") and "norm" in name else 0.0
        torch.testing.assert_close(read.state_dict()[name], tensor, rtol=0, atol=tolerance)
    tokens = torch.arange(192)[None]  # longer than the windows, long enough for scaled angles to matter
    with torch.no_grad():
        torch.testing.assert_close(read.eval()(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-4)
    ours, theirs = (ModelConfig.from_folder(one) for one in (folder, tmp_path / "source"))
    Checkpoint(folder).check(ours)
    for field in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size"):
        assert getattr(ours, field) == getattr(theirs, field), field
    assert ours.max_position == theirs.max_position
    assert ours.tied_embeddings == theirs.tied_embeddings
    assert ours.eos_token_ids == theirs.eos_token_ids == (7,)
    assert [kind.window for kind in ours.architecture.layers] == [
        kind.window for kind in theirs.architecture.layers
    ]
    for layer in range(ours.n_layers):
        turns = [config.layer_kind(layer).rope for config in (ours, theirs)]
        assert (turns[0] is None) == (turns[1] is None)
        if turns[0] is not None:
            torch.testing.assert_close(
                ours.rope_frequencies(turns[0]), theirs.rope_frequencies(turns[1]), rtol=1e-6, atol=0
            )


@pytest.mark.parametrize("row", ["llama", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "stablelm"])
def test_transformers_reads_the_same_weights(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader of GGUF, where it knows the family, gives the same tensors: names and order are llama.cpp's, not ours alone."""
    write_gguf(tmp_path / "model.gguf", made(tmp_path / "source", row, monkeypatch), row)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf").state_dict()
    folder = locate(str(tmp_path / "model.gguf"))
    ours = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_types_of_tensors(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each weight is what the file's type has of it, and as near to its source as the type allows."""
    model = made(tmp_path / "source", "llama", monkeypatch)
    write_gguf(tmp_path / "model.gguf", model, "llama", gguf.GGMLQuantizationType[kind])
    weights = Checkpoint(locate(str(tmp_path / "model.gguf")))
    worst = {"F32": 0.0, "F16": 5e-4, "BF16": 4e-3, "Q8_0": 0.01, "Q5_0": 0.05, "Q5_1": 0.05}.get(kind, 0.12)
    name = "model.layers.1.mlp.down_proj.weight"
    source = model.state_dict()[name]
    error = float((weights[name] - source).norm() / source.norm())
    assert error <= worst
    assert (error == 0.0) == (kind == "F32")


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"])
def test_types_that_the_package_only_reads(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of random blocks, what transformers' own dequantisation makes of them."""
    dequant = pytest.importorskip("transformers.integrations.gguf.dequant")
    model = made(tmp_path / "source", "llama", monkeypatch)
    as_kind = gguf.GGMLQuantizationType[kind]
    blocks: dict[str, np.ndarray[Any, Any]] = {}
    random = np.random.default_rng(0)

    def quantize(data: Any, _: Any) -> Any:
        size, width = gguf.GGML_QUANT_SIZES[as_kind]
        made = random.integers(0, 255, (data.shape[0], data.shape[1] // size, width), dtype=np.uint8)
        made &= 0x3B  # halves that are scales: none of them infinite
        blocks[str(data.shape)] = made.reshape(data.shape[0], -1)
        return blocks[str(data.shape)]

    monkeypatch.setattr(gguf, "quantize", quantize)
    write_gguf(tmp_path / "model.gguf", model, "llama", as_kind)
    name = "model.layers.1.mlp.down_proj.weight"
    ours = Checkpoint(locate(str(tmp_path / "model.gguf")))[name]
    raw = torch.from_numpy(blocks[str(tuple(ours.shape))])
    theirs = dequant.dequantize(raw, int(as_kind)).reshape(ours.shape)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert len(ours.unique()) > 8


def test_a_config_that_is_refused_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_line: Any
) -> None:
    """As of its source; the line names the file, not the folder that was being made."""
    write_gguf(
        tmp_path / "model.gguf",
        made(tmp_path / "source", "llama", monkeypatch, hidden_size=80),
        "llama",
    )
    with pytest.raises(InputError) as caught:
        locate(str(tmp_path / "model.gguf"))
    assert one_line(caught.value).startswith(f"model file {tmp_path / 'model.gguf'}: hidden_size")
