"""Checkpoint: tensors of a Hugging Face folder in the shapes and the order the device takes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tt_llm import InputError
from tt_llm.checkpoint import Checkpoint, interleave_rope, split_rope_halves
from tt_llm.config import ModelConfig


@pytest.fixture
def copied(tiny: Any, tmp_path: Path) -> Path:
    """A copy of a tiny model's folder, to be damaged."""
    return Path(shutil.copytree(tiny("mha").folder, tmp_path / "copy"))


def test_linear_transposes_the_weight(tiny: Any) -> None:
    """x @ linear(name) equals the Hugging Face layer's output."""
    model = tiny("gqa")
    layer = model.reference.model.layers[1].mlp.down_proj
    weight = Checkpoint(model.folder).linear("model.layers.1.mlp.down_proj")
    assert weight.shape == (1, 1, 384, 576)
    assert weight.dtype == torch.float32
    assert torch.equal(weight[0, 0], layer.weight.T)


@pytest.mark.parametrize("variant", ["mha", "untied"])
def test_the_lm_head_is_the_embedding_where_tied(tiny: Any, variant: str) -> None:
    """lm_head is [1, 1, dim, vocab]: the model's own output layer, tied or not."""
    model = tiny(variant)
    head = Checkpoint(model.folder).lm_head
    assert head.shape == (1, 1, 128, 1000)
    assert torch.equal(head[0, 0], model.reference.lm_head.weight.T)
    assert torch.equal(head[0, 0], model.reference.model.embed_tokens.weight.T) == (variant == "mha")


def test_qkv_are_queries_keys_and_values(tiny: Any) -> None:
    """With queries and keys back in half-split order, they are Hugging Face's three, as a matmul takes them."""
    model = tiny("gqa")
    q, k, v = (
        weight[0, 0] for weight in Checkpoint(model.folder).qkv(0, ModelConfig.from_folder(model.folder))
    )
    attention = model.reference.model.layers[0].self_attn
    assert torch.equal(split_rope_halves(q, 64), attention.q_proj.weight.T)
    assert torch.equal(split_rope_halves(k, 64), attention.k_proj.weight.T)
    assert torch.equal(v, attention.v_proj.weight.T)


def test_bfloat16_weights_come_as_float32(copied: Path) -> None:
    """Whatever format the file holds, tensors are handed out as float32 of the same value."""
    file = copied / "model.safetensors"
    stored = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    save_file(stored, file)
    norm = Checkpoint(copied)["model.norm.weight"]
    assert norm.dtype == torch.float32
    assert torch.equal(norm, stored["model.norm.weight"].float())


def test_weights_may_lie_in_several_files(copied: Path, tiny: Any) -> None:
    """A sharded checkpoint reads like one in a single file."""
    tensors = load_file(copied / "model.safetensors")
    names = sorted(tensors)
    (copied / "model.safetensors").unlink()
    save_file({name: tensors[name] for name in names[::2]}, copied / "model-1.safetensors")
    save_file({name: tensors[name] for name in names[1::2]}, copied / "model-2.safetensors")
    weight_map = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(names)}
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole, parts = Checkpoint(tiny("mha").folder), Checkpoint(copied)
    assert all(torch.equal(whole[name], parts[name]) for name in names)


def test_rope_order_goes_there_and_back() -> None:
    """interleave_rope and split_rope_halves undo each other, over any number of heads."""
    heads = torch.randn(2, 5, 3 * 64)
    assert torch.equal(split_rope_halves(interleave_rope(heads, 64), 64), heads)
    assert torch.equal(interleave_rope(split_rope_halves(heads, 64), 64), heads)


def test_interleaving_puts_the_partners_of_a_half_side_by_side() -> None:
    """Elements i and i + d/2 of each head become its elements 2i and 2i + 1."""
    heads = torch.arange(16.0)[None]
    assert interleave_rope(heads, 8).tolist() == [[0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]]


def test_rotating_pairs_is_rotating_halves() -> None:
    """Turning neighbours of an interleaved head gives Hugging Face's turned halves, interleaved."""
    torch.manual_seed(0)
    head = torch.randn(1, 1, 10, 64, dtype=torch.float64)
    angles = torch.outer(torch.arange(10.0), 10000.0 ** -(torch.arange(0, 64, 2) / 64)).double()
    halves = torch.cat([angles, angles], -1)[None]
    expected, _ = apply_rotary_pos_emb(head, head, halves.cos(), halves.sin())

    even, odd = interleave_rope(head, 64).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.polar(torch.ones_like(angles), angles) * torch.complex(even, odd)
    torch.testing.assert_close(torch.view_as_real(turned).flatten(-2), interleave_rope(expected, 64))


def test_a_missing_tensor_is_named(copied: Path, one_line: Any) -> None:
    """Asking for a tensor the files lack, and checking such a folder, says which and where."""
    tensors = load_file(copied / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    del tensors[name]
    save_file(tensors, copied / "model.safetensors")
    weights = Checkpoint(copied)
    for ask in (lambda: weights[name], lambda: weights.check(ModelConfig.from_folder(copied))):
        with pytest.raises(InputError) as caught:
            ask()
        assert one_line(caught.value) == f"model {copied}: tensor {name} is missing from its weights"


@pytest.mark.parametrize(
    ("change", "tensor", "sizes"),
    [
        ({"vocab_size": 2000}, "model.embed_tokens.weight", "is [1000, 128], by its config.json"),
        ({"intermediate_size": 512}, "model.layers.0.mlp.gate_proj.weight", "would be [512, 128]"),
        ({"num_key_value_heads": 1}, "model.layers.0.self_attn.k_proj.weight", "would be [64, 128]"),
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight", "missing"),
    ],
)
def test_weights_of_another_shape_than_the_config_says_are_refused(
    copied: Path, one_line: Any, change: dict[str, int], tensor: str, sizes: str
) -> None:
    """A config.json that does not belong to the weights is found before anything is loaded."""
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError) as caught:
        Checkpoint(copied).check(ModelConfig.from_folder(copied))
    assert tensor in one_line(caught.value)
    assert sizes in one_line(caught.value)


def test_weights_that_fit_pass_the_check(each_tiny: Any) -> None:
    """Every variant's own config fits its weights."""
    Checkpoint(each_tiny.folder).check(ModelConfig.from_folder(each_tiny.folder))


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_truncated_safetensors_are_refused(copied: Path, one_line: Any, kept: float) -> None:
    """A file cut off in its header, in its data, or by one byte is called damaged, by name."""
    file = copied / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match="damaged or truncated") as caught:
        Checkpoint(copied)
    assert str(file) in one_line(caught.value)


def test_a_folder_without_weights_is_refused(tmp_path: Path, one_line: Any) -> None:
    """There must be at least one safetensors file."""
    with pytest.raises(InputError) as caught:
        Checkpoint(tmp_path)
    assert one_line(caught.value).startswith(f"model {tmp_path}: no safetensors in it")
