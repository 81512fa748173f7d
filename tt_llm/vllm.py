"""The model as vLLM's plugin for Tenstorrent devices drives one: a class with the names and the arguments that it calls.

The plugin owns the page tables and the scheduling; block 0 in a table may mean that there is none yet, and nobody's tokens
are ever in it. Each architecture that runs has the class under its own name: `tt_llm.vllm:Qwen3ForCausalLM`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import ttnn

from tt_llm.checkpoint import locate, tensor_shapes
from tt_llm.config import FAMILIES, ModelConfig
from tt_llm.data_parallel import load_groups
from tt_llm.errors import InputError
from tt_llm.generator import DecodeOutput, Generator
from tt_llm.kv_cache import PagedKVCache
from tt_llm.op_configs import padded_prefill_length
from tt_llm.tensor_parallel import TensorParallel

_log = logging.getLogger(__name__)

DEFAULT_OPTIMIZATIONS = "performance"  # where the plugin gives None
DRAM = 12 << 30  # bytes of a Wormhole: 12 banks of 1 GiB
RESERVED = 1.5 * (1 << 30)  # bytes of it kept for activations, rope tables, traces and programs: an estimate
BFP8_BYTES = 17 / 16  # of an element: 8 bits, and a byte of exponent for every 16


class ServedModel:
    """A model on a mesh, or one on each of several equal parts of it, with the KV caches that vLLM asked for.

    Of several, row b of a decode batch, and a prompt in slot b, is group b // (users of a group)'s. Integers come as tensors
    or as numpy arrays.
    """

    model_capabilities: ClassVar[dict[str, bool]] = {
        "supports_prefix_caching": False,  # a prefill starts at position 0
        "supports_async_decode": True,  # `read_decode_output` need not wait
        "supports_sample_on_device": False,
    }

    def __init__(self, groups: Sequence[Generator]) -> None:
        self.groups = tuple(groups)
        self._users = groups[0].max_batch_size

    @classmethod
    def initialize_vllm_model(
        cls,
        hf_config: Any,
        mesh_device: ttnn.MeshDevice,
        max_batch_size: int,
        max_seq_len: int,
        n_layers: int | None = None,
        tt_data_parallel: int = 1,
        optimizations: str | None = None,
    ) -> ServedModel:
        """Loads the model of a Hugging Face config, without a KV cache. `max_batch_size` counts the users of all groups together;
        `optimizations`: a precision.

        Raises InputError, as `load`, and for users that the groups cannot share.
        """
        if max_batch_size % tt_data_parallel:
            raise InputError(
                f"max_batch_size {max_batch_size}: give a multiple of tt_data_parallel, {tt_data_parallel}"
            )
        loaded = load_groups(
            hf_config.name_or_path,
            mesh_device,
            tt_data_parallel,
            optimizations or DEFAULT_OPTIMIZATIONS,
            max_batch_size // tt_data_parallel,
            max_seq_len,
            n_layers,
            own_kv_cache=False,
        )
        return cls(loaded.groups)

    @classmethod
    def get_max_tokens_all_users(
        cls,
        model_name: str,
        num_devices: int,
        tt_data_parallel: int,
        max_model_len: int,
        max_num_seqs: int,
    ) -> int:
        """Tokens a group's cache is made for: all that its users may have, or what DRAM is estimated to hold beside the weights,
        both in bfloat8_b.

        At least one user's: where not even that fits, `allocate_kv_cache` says so.
        """
        config = ModelConfig.from_folder(locate(model_name))
        devices = num_devices // tt_data_parallel
        local = TensorParallel.of(config, devices).local
        token = 2 * local.n_layers * local.n_kv_heads * local.head_dim
        weights = sum(math.prod(shape) for shape in tensor_shapes(config).values()) / devices
        fitting = int(((DRAM - RESERVED) / BFP8_BYTES - weights) / token)
        return max(max_model_len, min(max_model_len * max_num_seqs, fitting))

    def allocate_kv_cache(
        self, kv_cache_shape: Sequence[int], dtype: torch.dtype, num_layers: int
    ) -> list[PagedKVCache]:
        """A cache for each group: [blocks, KV heads of a device, block size, head_dim] a layer.

        Its format on the devices is the precision's, whatever `dtype` says. The KV heads are as the plugin counts them, the
        model's shared out among the devices; where they do not divide, a device has more. Raises InputError for a shape that is
        not the model's.
        """
        first = self.groups[0]
        config, devices = first.model.config, first.mesh_device.get_num_devices()
        blocks, _, block_size, _ = kv_cache_shape
        heads = config.n_kv_heads // min(devices, config.n_kv_heads)
        ours = (blocks, heads, block_size, config.head_dim)
        if tuple(kv_cache_shape) != ours or num_layers != config.n_layers:
            raise InputError(
                f"kv_cache_shape {list(kv_cache_shape)} for {num_layers} layers: the model has {list(ours)} for {config.n_layers}"
            )
        for group in self.groups:
            group.kv_cache = group.new_kv_cache(blocks, block_size)
        return [group.kv_cache for group in self.groups]

    def warmup_model_prefill(
        self, kv_cache: Sequence[PagedKVCache], enable_trace: bool, can_sample_on_device: bool
    ) -> None:
        """Compiles what prompts of every length run, on block 0. A prefill is never a trace, so once is enough."""
        if enable_trace:
            return
        for group, cache in zip(self.groups, kv_cache, strict=True):
            lengths = {padded_prefill_length(n): n for n in range(1, group.max_seq_len + 1)}
            for length in lengths.values():
                table = torch.zeros(1, -(-length // cache.block_size), dtype=torch.int32)
                group.prefill_forward(torch.zeros(1, length, dtype=torch.int32), table, cache)

    def warmup_model_decode(
        self,
        kv_cache: Sequence[PagedKVCache],
        enable_trace: bool,
        max_batch_size: int,
        num_blocks: int,
        can_sample_on_device: bool,
    ) -> None:
        """Compiles a decode step, or captures it as a trace: one user of each group at position 0 of block 0."""
        tokens = torch.zeros(max_batch_size, 1, dtype=torch.int32)
        table = torch.zeros(max_batch_size, num_blocks, dtype=torch.int32)
        positions = torch.full((max_batch_size,), -1, dtype=torch.int32)
        positions[:: self._users] = 0
        for _ in range(2 if enable_trace else 1):  # a trace's first run compiles, its second captures
            self.decode_forward(tokens, positions, table, kv_cache, enable_trace)

    def prefill_forward(
        self,
        tokens: Any,
        page_table: Any,
        kv_cache: Sequence[PagedKVCache],
        prompt_lens: Sequence[int],
        start_pos: Any = None,
        enable_trace: bool = False,
        empty_slots: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """tokens [B, longest prompt] -> logits of each prompt's last token, [B, 1, vocab].

        prompt_lens [B]: where each prompt ends; start_pos [B]: where it starts, 0. empty_slots [B]: which group's it is, by the
        row it will decode in. A prompt that cannot be run is logged, and answered with the certainty that its text has ended: an
        exception would end the engine, and with it everybody's requests.
        """
        tokens, page_table = _integers(tokens), _integers(page_table)
        lens = _integers(prompt_lens).tolist()
        starts = [0] * len(lens) if start_pos is None else _integers(start_pos).tolist()
        slots = range(len(lens)) if empty_slots is None else empty_slots
        logits = []
        for row, (start, length, slot) in enumerate(zip(starts, lens, slots, strict=True)):
            number = slot // self._users if len(self.groups) > 1 else 0
            group, only = self.groups[number], slice(row, row + 1)
            try:
                if start:
                    raise InputError(f"start_pos {start}: a prefill starts at 0")
                if not 1 <= length <= tokens.shape[1]:
                    raise InputError(f"prompt_lens {length}: give 1 to {tokens.shape[1]}")
                prompt = tokens[only, :length]
                logits.append(group.prefill_forward(prompt, page_table[only], kv_cache[number]))
            except InputError as error:
                _log.error("request in row %d of a prefill ends without an answer: %s", row, error)
                logits.append(_ended(group.model.config))
        return torch.cat(logits)

    def decode_forward(
        self,
        tokens: Any,
        start_pos: Any,
        page_table: Any,
        kv_cache: Sequence[PagedKVCache],
        enable_trace: bool = True,
        read_from_device: bool = True,
        slot_remap: Any = None,
    ) -> torch.Tensor | list[DecodeOutput]:
        """A step of tokens [B, 1] at start_pos [B], -1 where there is nobody: logits [B, 1, vocab], or what
        `read_decode_output` and `process_decode_output_host` read them from.

        slot_remap [B] says which rows' requests have moved: their pages have come along in the page table, and there is no
        more to a request on the devices.
        """
        tokens, start_pos, page_table = _integers(tokens), _integers(start_pos), _integers(page_table)
        outputs = [
            group.decode_step(tokens[rows], start_pos[rows], page_table[rows], cache, enable_trace)
            for group, rows, cache in zip(self.groups, self._rows(), kv_cache, strict=True)
        ]
        return self.process_decode_output_host(outputs) if read_from_device else outputs

    def read_decode_output(
        self, outputs: Sequence[DecodeOutput], async_read: bool = False
    ) -> torch.Tensor | tuple[list[DecodeOutput], list[ttnn.MeshEvent]]:
        """A step's logits, [B, 1, vocab]; or, not waiting, what `process_decode_output_host` takes once the events have happened.

        To be called before the next step, which writes over what is on the devices.
        """
        if not async_read:
            return self.process_decode_output_host(outputs)
        copies = [
            group.copy_decode_output(output) for group, output in zip(self.groups, outputs, strict=True)
        ]
        return [output for output, _ in copies], [event for _, event in copies]

    def process_decode_output_host(
        self, outputs: Sequence[DecodeOutput], is_tokens: bool = False
    ) -> torch.Tensor:
        """The logits, [B, 1, vocab], of what `decode_forward` or `read_decode_output` returned."""
        return torch.cat(
            [group.read_decode_output(output) for group, output in zip(self.groups, outputs, strict=True)]
        )

    def modules(self) -> tuple[()]:
        """What vLLM walks when an engine ends, as if this were a torch module: nothing here keeps anything of it."""
        return ()

    def _rows(self) -> Iterator[slice]:
        """The rows of a decode batch that are each group's."""
        return (
            slice(start, start + self._users)
            for start in range(0, len(self.groups) * self._users, self._users)
        )


def __getattr__(name: str) -> type[ServedModel]:
    """The class, under the name of an architecture."""
    if name in FAMILIES:
        return ServedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _integers(values: Any) -> torch.Tensor:
    """A copy: what the plugin gives it writes over while a step still runs."""
    return torch.as_tensor(values).to(torch.int32, copy=True)


def _ended(config: ModelConfig) -> torch.Tensor:
    """[1, 1, vocab]: the logits of one who is sure that the text has ended."""
    logits = torch.full((1, 1, config.vocab_size), float("-inf"))
    logits[..., config.eos_token_ids[0] if config.eos_token_ids else 0] = 0
    return logits
