"""Golden and device read the same weights of a folder, or both refuse it: two sides that may not ask each other."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from goldens import GoldenError, Reference
from tt_llm import InputError
from tt_llm.checkpoint import Checkpoint, tensor_shapes
from tt_llm.config import ModelConfig

Tensors = dict[str, torch.Tensor]
EMBEDDING, HEAD, UP = "model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"
INDEX = "model.safetensors.index.json"
# Quantised, each as its method's own tools leave it: the config, and the tensors that take a weight's place.
METHODS = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 32},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 32},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "float-quantized"},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "FP8"},
    "torchao": {"quant_method": "torchao", "quant_type": "int8"},
    "none named": {"bits": 8},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers, bf16, whose LM head is its own."""
    folder = tmp_path_factory.mktemp("whole")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=96, head_dim=32)).bfloat16().save_pretrained(folder)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def configured(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def changed(folder: Path, change: Callable[[Tensors], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def golden(folder: Path) -> Tensors | str:
    """What the golden computes with, or why it does not."""
    try:
        return {name: t.float() for name, t in Reference(folder).model.state_dict().items()}
    except GoldenError as error:
        return str(error)


def device(folder: Path) -> Tensors | str:
    """What the device would be given, or why it is not."""
    try:
        config, weights = ModelConfig.from_folder(folder), Checkpoint(folder)
        weights.check(config)
        return {name: weights[name] for name in tensor_shapes(config)} | {HEAD: weights.lm_head[0, 0].T}
    except InputError as error:
        return str(error)


def agreed(folder: Path) -> Tensors | None:
    """The tensors that both have, None where both refuse; fails where they differ."""
    ours, theirs = device(folder), golden(folder)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert isinstance(ours, str), f"the device takes what the golden refuses: {theirs}"
        assert isinstance(theirs, str), f"the golden takes what the device refuses: {ours}"
        assert "\n" not in ours + theirs
        return None
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    return ours


def said(folder: Path) -> tuple[str, str]:
    """The refusals of both."""
    ours, theirs = device(folder), golden(folder)
    assert isinstance(ours, str)
    assert isinstance(theirs, str)
    assert "\n" not in ours + theirs
    return ours, theirs


def test_a_plain_folder_is_read_alike(whole: Path) -> None:
    """Every tensor, bit for bit."""
    assert agreed(whole) is not None


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("method", METHODS)
def test_a_quantised_model_is_refused(copied: Path, method: str, key: str) -> None:
    """By both, in a line that names the method, whatever its tensors are."""
    configured(copied, **{key: METHODS[method]})
    for line in said(copied):
        assert key in line
        assert METHODS[method].get("quant_method", "unnamed") in line


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8, torch.int32]
)
def test_quantised_tensors_without_a_word_in_the_config_are_refused(copied: Path, dtype: torch.dtype) -> None:
    """A weight of small numbers alone means nothing; the tensor is named."""
    changed(copied, lambda tensors: tensors.update({UP: tensors[UP].to(dtype)}))
    assert all(UP in line for line in said(copied))


@pytest.mark.parametrize(
    "companion", ["weight_scale_inv", "weight_scale", "input_scale", "qzeros", "SCB", "absmax", "bias"]
)
def test_what_belongs_to_a_weight_and_is_not_taken_is_refused(copied: Path, companion: str) -> None:
    """Scales, zeros and biases that the config does not know would be left out in silence."""
    name = UP.replace("weight", companion)
    changed(copied, lambda tensors: tensors.update({name: torch.ones(64)}))
    assert all(name in line for line in said(copied))


@pytest.mark.parametrize(
    "name",
    ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "vision.weight"],
)
def test_what_is_beside_the_model_is_left(copied: Path, name: str) -> None:
    """Layers beyond those of the config, old files' angles, another model's tensors: as Hugging Face has it."""
    changed(copied, lambda tensors: tensors.update({name: torch.ones(8)}))
    assert agreed(copied) is not None


def test_every_tensor_is_missed(whole: Path, tmp_path: Path) -> None:
    """None of them becomes random numbers."""
    for number, name in enumerate(load_file(whole / "model.safetensors")):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        changed(folder, lambda tensors, name=name: tensors.pop(name))  # type: ignore[misc]
        assert all(f"tensor {name} is missing" in line for line in said(folder))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kept", [(EMBEDDING, HEAD), (EMBEDDING,), (HEAD,), ()])
def test_tied_embeddings(copied: Path, tied: bool, kept: tuple[str, ...]) -> None:
    """Either may stand for both where they are tied; two that differ are two, whatever the config says."""
    configured(copied, tie_word_embeddings=tied)
    stored = load_file(copied / "model.safetensors")

    def drop(tensors: Tensors) -> None:
        for name in {EMBEDDING, HEAD} - set(kept):
            del tensors[name]

    changed(copied, drop)
    found = agreed(copied)
    assert (found is None) == (len(kept) < (1 if tied else 2))
    if found is not None:
        assert torch.equal(found[EMBEDDING], stored[kept[0]].float())
        assert torch.equal(found[HEAD], stored[kept[-1]].float())


@pytest.mark.parametrize(
    "beside",
    [
        "model_quantized.safetensors",
        "consolidated.safetensors",
        "model-00001-of-00002.safetensors",
        "adapter_model.safetensors",
    ],
)
def test_other_files_beside_the_weights_are_not_read(copied: Path, beside: str) -> None:
    """Nor do they name the golden."""
    identity = Reference(copied).identity
    others = {name: torch.zeros_like(t) for name, t in load_file(copied / "model.safetensors").items()}
    save_file(others, copied / beside)
    torch.save(others, copied / "pytorch_model.bin")
    (copied / "model.gguf").write_bytes(b"GGUF")
    found = agreed(copied)
    assert found is not None
    assert found[UP].any()
    assert Reference(copied).identity == identity


def sharded(folder: Path, parts: int, offset: float = 0.0) -> None:
    """The same tensors, `offset` added, in shards with their index."""
    tensors = load_file(folder / "model.safetensors")
    weight_map = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        named = sorted(tensors)[part::parts]
        of_part = {name: (tensors[name].float() + offset).to(tensors[name].dtype) for name in named}
        save_file(of_part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(of_part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_one_file_comes_before_an_index(copied: Path) -> None:
    """Where both are there, and differ."""
    expected = load_file(copied / "model.safetensors")[UP].float()
    sharded(copied, 2, offset=1.0)
    found = agreed(copied)
    assert found is not None
    assert torch.equal(found[UP], expected)


def test_an_index_says_which_shards_are_read(copied: Path) -> None:
    """Others, such as those of an earlier save, are left."""
    sharded(copied, 2, offset=1.0)
    sharded(copied, 3)
    expected = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    found = agreed(copied)
    assert found is not None
    assert all(torch.equal(found[name], expected[name].float()) for name in expected)


@pytest.mark.parametrize(
    "index", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "none.safetensors"}}']
)
def test_an_index_that_is_none_is_refused(copied: Path, index: str) -> None:
    """A shard that is not there too; each says so."""
    (copied / "model.safetensors").unlink()
    (copied / INDEX).write_text(index)
    assert all(INDEX in line or "none.safetensors" in line for line in said(copied))


@pytest.mark.parametrize(
    "name", ["consolidated.safetensors", "model-00001-of-00001.safetensors", "model.fp16.safetensors"]
)
def test_weights_of_another_name_are_refused(copied: Path, name: str) -> None:
    """Hugging Face does not look there; what it would read is named."""
    (copied / "model.safetensors").rename(copied / name)
    assert all("model.safetensors" in line for line in said(copied))


def test_an_adapter_is_refused(copied: Path) -> None:
    """Whether it is applied depends on what is installed."""
    (copied / "adapter_config.json").write_text("{}")
    assert all("adapter" in line for line in said(copied))


def test_weights_that_the_config_names_are_refused(copied: Path) -> None:
    """transformers would read that file; the device does not know it."""
    (copied / "model.safetensors").rename(copied / "mine.safetensors")
    shutil.copy(copied / "mine.safetensors", copied / "model.safetensors")
    configured(copied, transformers_weights="mine.safetensors")
    assert all("mine.safetensors" in line for line in said(copied))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_layout_is_read_alike_or_refused_by_both(whole: Path, data: st.DataObject) -> None:
    """Tied or not, in one file or in shards, with files and tensors that are missing or too many, in several formats."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(whole, Path(scratch) / "copy"))
        tensors = load_file(folder / "model.safetensors")
        configured(folder, tie_word_embeddings=data.draw(st.booleans(), "tied"))
        for name in data.draw(st.sets(st.sampled_from(sorted(tensors)), max_size=1), "dropped"):
            del tensors[name]
        for name in data.draw(st.sets(st.sampled_from(sorted(tensors)), max_size=2), "cast"):
            dtypes = [torch.float32, torch.float64, torch.float16, torch.float8_e4m3fn, torch.int8]
            tensors[name] = tensors[name].to(data.draw(st.sampled_from(dtypes), "dtype"))
        extras = ["lm_head.bias", "model.norm.bias", UP + "_scale", "model.layers.2.a", "b", "layers.0.c"]
        for name in data.draw(st.sets(st.sampled_from(extras), max_size=1), "extra"):
            tensors[name] = torch.ones(3)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        if data.draw(st.booleans(), "shards"):
            sharded(
                folder,
                data.draw(st.integers(1, 3), "parts"),
                data.draw(st.sampled_from([0.0, 1.0]), "offset"),
            )
            if data.draw(st.booleans(), "no whole file"):
                (folder / "model.safetensors").unlink()
        agreed(folder)
