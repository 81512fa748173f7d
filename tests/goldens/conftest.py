"""A tiny random Llama in a folder, as a downloaded model would be, with a tokenizer of one token a byte."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from goldens import GoldenStore, Reference, Text, load_text

SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # large enough for attention and RoPE to matter
    "bos_token_id": None,
    "eos_token_id": None,
}
ModelMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    """make_model(config=None, seed=0) saves a random model of that config (default: the tiny Llama)."""

    def build(config: Any = None, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("model")
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config or LlamaConfig(**SIZES), dtype=torch.float32)
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                torch.nn.init.uniform_(weight, 0.5, 1.5)  # all ones would hide a norm left out
        model.save_pretrained(folder)
        _byte_tokenizer().save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def sizes() -> dict[str, Any]:
    return dict(SIZES)


@pytest.fixture(scope="session")
def folder(make_model: ModelMaker) -> Path:
    return make_model()


@pytest.fixture(scope="session")
def reference(folder: Path) -> Callable[[str], Reference]:
    """The tiny model for a dtype name; each is loaded once."""
    return functools.cache(functools.partial(Reference, folder))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    """The beginning of the default text, enough for these tests and quick to cut into tokens."""
    file = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    file.write_text(load_text().text[:8192], encoding="utf-8")
    return load_text(file)


@pytest.fixture
def store(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "store")


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
