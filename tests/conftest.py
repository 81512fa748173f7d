"""What tests of several kinds need to make small models of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


@pytest.fixture(scope="session")
def save_byte_tokenizer() -> Callable[[Path], None]:
    """save_byte_tokenizer(folder) gives a model's folder a tokenizer of 256 tokens, one a byte."""

    def save(folder: Path) -> None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT).save_pretrained(folder)

    return save


@pytest.fixture(scope="session")
def save_llama(save_byte_tokenizer: Callable[[Path], None]) -> Callable[..., Path]:
    """save_llama(folder, **settings of LlamaConfig) makes it a model's folder: weights of a fixed seed, bytes for tokens."""

    def save(folder: Path, **settings: Any) -> Path:
        usual = {
            "vocab_size": 256,
            "max_position_embeddings": 2048,
            "initializer_range": 0.2,  # large enough for attention and RoPE to matter
            "bos_token_id": None,
            "eos_token_id": None,
        }
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**usual | settings), dtype=torch.float32)
        model.save_pretrained(folder)
        save_byte_tokenizer(folder)
        return folder

    return save
