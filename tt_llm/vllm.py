"""The model as vLLM's plugin for Tenstorrent devices drives one: a class with the names that it calls.

The plugin owns the page tables and the scheduling; block 0 in a table may mean that there is none yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import ttnn

from tt_llm.errors import InputError
from tt_llm.generator import DecodeOutput, Generator
from tt_llm.kv_cache import BLOCK_SIZE, PagedKVCache
from tt_llm.loading import load


class LlamaForCausalLM:
    """A Llama-like model, with the KV cache that vLLM asked for."""

    model_capabilities: ClassVar[dict[str, bool]] = {
        "supports_prefix_caching": False,  # a prefill starts at position 0
        "supports_async_decode": True,  # read_from_device=False
        "supports_sample_on_device": False,
    }

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @classmethod
    def initialize_vllm_model(
        cls,
        hf_config: Any,
        mesh_device: ttnn.MeshDevice,
        max_batch_size: int,
        max_seq_len: int,
        n_layers: int | None = None,
        tt_data_parallel: int = 1,
        optimizations: str = "performance",
    ) -> LlamaForCausalLM:
        """Loads the model of a Hugging Face config. `optimizations`: a precision. Raises InputError."""
        if tt_data_parallel != 1:
            raise InputError(f"tt_data_parallel {tt_data_parallel}: a mesh holds one model, give 1")
        name = hf_config.name_or_path
        generator = load(name, mesh_device, optimizations, max_batch_size, max_seq_len, n_layers)
        return cls(generator)

    def allocate_kv_cache(
        self, kv_cache_shape: Sequence[int], dtype: torch.dtype, num_layers: int
    ) -> PagedKVCache:
        """A cache of shape [blocks, KV heads, 32, head_dim] a layer, in place of the generator's own, which is freed.

        Its format on the devices is the precision's, whatever `dtype` says. Raises InputError for a shape that is
        not the model's.
        """
        g, config = self.generator, self.generator.model.config
        ours = (kv_cache_shape[0], config.n_kv_heads, BLOCK_SIZE, config.head_dim)
        if tuple(kv_cache_shape) != ours or num_layers != config.n_layers:
            raise InputError(
                f"kv_cache_shape {list(kv_cache_shape)} for {num_layers} layers: the model has {list(ours)} for {config.n_layers}"
            )
        g.drop_kv_cache()
        g.kv_cache = PagedKVCache(
            mesh_device=g.mesh_device,
            tp=g.model.tp,
            n_blocks=kv_cache_shape[0],
            dtype=g.precision.kv_cache,
        )
        return g.kv_cache

    def prefill_forward(
        self,
        tokens: torch.Tensor,
        page_table: torch.Tensor,
        kv_cache: PagedKVCache,
        prompt_lens: Sequence[int],
    ) -> torch.Tensor:
        """tokens [B, longest prompt] -> logits of each prompt's last token, [B, 1, vocab]."""
        return self.generator.prefill_forward(tokens, page_table, kv_cache, list(prompt_lens))

    def decode_forward(
        self,
        tokens: torch.Tensor,
        start_pos: torch.Tensor,
        page_table: torch.Tensor,
        kv_cache: PagedKVCache,
        enable_trace: bool = True,
        read_from_device: bool = True,
    ) -> torch.Tensor | DecodeOutput:
        """A step of tokens [B, 1] at start_pos [B]: logits [B, 1, vocab], or what `read_decode_output` reads them from."""
        output = self.generator.decode_step(tokens, start_pos, page_table, kv_cache, enable_trace)
        return self.generator.read_decode_output(output) if read_from_device else output

    def read_decode_output(self, output: DecodeOutput) -> torch.Tensor:
        """Waits for a step's logits, [B, 1, vocab]: to be called before the next step."""
        return self.generator.read_decode_output(output)
