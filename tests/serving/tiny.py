"""A tiny Llama in a folder, for a server: its weights are the same wherever and whenever it is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = 500  # the model's; the tokenizer has more, so that a prompt may hold ids that the model does not know
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 7,
}


def write_tiny(folder: Path) -> Path:
    """Model and tokenizer of words w0, w1, ...; NumPy's RandomState, whose stream never changes, draws the weights."""
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    random = np.random.RandomState(22)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            values = random.standard_normal(tuple(weight.shape)) * 0.08
            weight.copy_(torch.from_numpy(1 + values if name.endswith("norm.weight") else values))
    model.to(torch.bfloat16).save_pretrained(folder)
    words = {f"w{i}": i for i in range(WORDS + 20)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", eos_token="w7").save_pretrained(
        folder
    )
    return folder
