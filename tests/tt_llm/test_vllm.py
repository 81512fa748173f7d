"""The class that vLLM's plugin drives, driven as the plugin does: its cache, its page tables, padded decode batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from tt_llm import InputError
from tt_llm.generator import DecodeOutput
from tt_llm.vllm import LlamaForCausalLM

BATCH, BLOCKS = 4, 24


@pytest.fixture
def model(tiny: Any, mesh_device: Any) -> LlamaForCausalLM:
    config = AutoConfig.from_pretrained(tiny("mha").folder)
    return LlamaForCausalLM.initialize_vllm_model(config, mesh_device, BATCH, 128, optimizations="accuracy")


def test_a_served_batch_gets_the_generators_logits(model: LlamaForCausalLM, tiny: Any, load: Any) -> None:
    """Two of four places taken, pages handed out of order, tables with 0 for none; read at once and later."""
    cache = model.allocate_kv_cache((BLOCKS, 2, 32, 64), torch.bfloat16, 2)
    assert cache is model.generator.kv_cache
    tokens, lens = tiny("mha").prompt(44, users=2), [40, 23]
    table = torch.zeros(BATCH, 4, dtype=torch.int32)
    table[0, :2], table[1, :1] = torch.tensor([7, 3]), torch.tensor([5])
    expected = load(tiny("mha"))
    ours = model.prefill_forward(tokens[:, :40], table[:2], cache, lens)
    assert torch.equal(ours, expected.prefill_forward(tokens[:, :40], prompt_lens=lens))
    for step in range(3):
        padded = torch.zeros(BATCH, 1, dtype=torch.int32)
        padded[:2] = tokens[:, 40 + step, None]
        at = torch.tensor([40 + step, 23 + step, -1, -1], dtype=torch.int32)
        output = model.decode_forward(padded, at, table, cache, read_from_device=step == 0)
        if step:
            assert isinstance(output, DecodeOutput)
            output = model.read_decode_output(output)
        assert torch.equal(output, expected.decode_forward(padded, at))
    assert model.model_capabilities["supports_prefix_caching"] is False


def test_what_the_model_cannot_be_is_refused(
    model: LlamaForCausalLM, tiny: Any, mesh_device: Any, one_line: Any
) -> None:
    """A cache of other heads, block size or layers, and data parallelism."""
    for shape, layers in (((8, 3, 32, 64), 2), ((8, 2, 64, 64), 2), ((8, 2, 32, 64), 5)):
        with pytest.raises(InputError, match=r"^kv_cache_shape \[8, "):
            model.allocate_kv_cache(shape, torch.bfloat16, layers)
    config = AutoConfig.from_pretrained(tiny("mha").folder)
    with pytest.raises(InputError) as caught:
        LlamaForCausalLM.initialize_vllm_model(config, mesh_device, 1, 32, tt_data_parallel=2)
    assert one_line(caught.value).startswith("tt_data_parallel 2")
