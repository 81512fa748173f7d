"""Tiny random Llamas in folders, as downloaded models would be, each with its fp32 Hugging Face model as reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.tt_llm.families import make_family

if TYPE_CHECKING:  # pytest may read this file before the plugin has put a target in place of ttnn
    import ttnn

    import tt_llm

SIZES: dict[str, Any] = {
    "vocab_size": 1000,  # neither whole tiles nor the LM head's slices
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,  # large enough for attention and RoPE to matter
    "bos_token_id": None,
    "eos_token_id": 7,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "mha": {},
    "gqa": {  # the heads of SmolLM2
        "hidden_size": 576,
        "intermediate_size": 384,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "initializer_range": 0.04,
    },
    "untied": {"tie_word_embeddings": False, "num_key_value_heads": 1, "rope_parameters": LLAMA3_ROPE},
    # Heads together narrower than the residual, and a vocabulary of more than one LM head slice.
    "narrow_heads": {"head_dim": 32, "num_key_value_heads": 1, "vocab_size": 8200},
}


@dataclass(frozen=True)
class TinyModel:
    """A folder and the model that was saved in it."""

    folder: Path
    reference: LlamaForCausalLM

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, S] -> [B, S, vocab] float32, by Hugging Face."""
        with torch.inference_mode():
            return self.reference(tokens.long()).logits

    def prompt(self, length: int, users: int = 1, seed: int = 1) -> torch.Tensor:
        """Random token ids [users, length]."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, self.reference.config.vocab_size, (users, length), generator=generator)


TinyMaker = Callable[..., TinyModel]
Loader = Callable[..., "tt_llm.Generator"]


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyMaker:
    """make_tiny(**sizes): a seeded random Llama of those sizes, saved to a folder of its own."""

    def make(**sizes: Any) -> TinyModel:
        folder = tmp_path_factory.mktemp("tiny")
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes})).float().eval()
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                torch.nn.init.uniform_(weight, 0.5, 1.5)  # all ones would hide a norm left out
        model.save_pretrained(folder)
        words = {f"t{i}": i for i in range(model.config.vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
        return TinyModel(folder, model)

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: TinyMaker) -> Callable[[str], TinyModel]:
    """tiny(variant): the model of one of VARIANTS, made once; not to be changed by a test."""
    return functools.cache(lambda variant: make_tiny(**VARIANTS[variant]))


@pytest.fixture(scope="session", params=list(VARIANTS))
def each_tiny(request: pytest.FixtureRequest, tiny: Callable[[str], TinyModel]) -> TinyModel:
    """Every variant in turn."""
    return tiny(request.param)


@pytest.fixture(scope="session")
def mesh_device() -> Iterator[ttnn.MeshDevice]:
    import ttnn

    from tt_llm.mesh import open_mesh

    mesh = open_mesh((1, 1))
    yield mesh
    ttnn.close_mesh_device(mesh)


@pytest.fixture(scope="session")
def load(mesh_device: ttnn.MeshDevice) -> Loader:
    """load(tiny, precision="accuracy", users=4, max_seq_len=256): its generator, loaded once for each of these."""

    import tt_llm

    @functools.cache
    def loaded(folder: Path, precision: str, users: int, max_seq_len: int) -> tt_llm.Generator:
        return tt_llm.load(str(folder), mesh_device, precision, users, max_seq_len)

    def load(
        tiny: TinyModel, precision: str = "accuracy", users: int = 4, max_seq_len: int = 256
    ) -> tt_llm.Generator:
        return loaded(tiny.folder, precision, users, max_seq_len)

    return load


@pytest.fixture(scope="session")
def one_line() -> Callable[[BaseException], str]:
    """The message of an error, which must be a single line."""

    def message(error: BaseException) -> str:
        text = str(error)
        assert text
        assert "\n" not in text
        return text

    return message


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """family(name): folder and Hugging Face model of a row, made once."""

    @functools.cache
    def made(name: str) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp(name)
        return folder, make_family(folder, name)

    return made
