"""Normed hidden state to logits over the vocabulary, of which each device has a part."""

from __future__ import annotations

import torch
import ttnn
from torch.nn.functional import pad

from tt_llm.checkpoint import Checkpoint
from tt_llm.mesh import all_gather, concat_to_host, scatter
from tt_llm.op_configs import OpConfigs
from tt_llm.precision import Precision
from tt_llm.tensor_parallel import TensorParallel


class LMHead:
    """The vocabulary in equal slices of columns, a matmul each, so that a slice's output fits L1."""

    def __init__(
        self,
        *,
        mesh_device: ttnn.MeshDevice,
        tp: TensorParallel,
        weights: Checkpoint,
        configs: OpConfigs,
        precision: Precision,
    ) -> None:
        columns = configs.lm_head_columns
        table = weights.lm_head  # [1, 1, dim, vocab]
        self._softcap, scale = tp.whole.architecture.logit_softcap, tp.whole.architecture.logit_scale
        self._vocab_size, self._devices = table.shape[-1], tp.devices
        width = -(-tp.local.vocab_size // columns) * columns  # of a device's part, in whole slices
        # One slice at a time, so that no second table is held; what lies beyond the vocabulary is zeros.
        self._slices = [
            scatter(
                torch.cat([_columns(table, d * width + start, columns) for d in range(tp.devices)], dim=-1)
                * scale,
                mesh_device,
                -1,
                precision.lm_head_weights,
            )
            for start in range(0, width, columns)
        ]
        self._configs = configs

    def __call__(self, x: ttnn.Tensor) -> ttnn.Tensor:
        """[1, 1, R, dim] bf16 interleaved, R <= 1,024 -> [1, 1, R, a device's part of the padded vocabulary] bf16."""
        program = self._configs.lm_head(x.shape[-2])
        slices = [
            ttnn.linear(
                x,
                weight,
                dtype=ttnn.bfloat16,
                program_config=program,
                memory_config=ttnn.DRAM_MEMORY_CONFIG,
                compute_kernel_config=self._configs.linear_compute,
            )
            for weight in self._slices
        ]
        logits = slices[0] if len(slices) == 1 else ttnn.concat(slices, dim=-1)
        return logits if self._softcap is None else _softcapped(logits, self._softcap)

    def greedy(self, logits: ttnn.Tensor) -> ttnn.Tensor:
        """What a call returned -> [1, R] uint32, on all devices: each row's most likely token, the lowest of equals."""
        whole = all_gather(logits, logits.shape[-1] * self._devices, ttnn.DRAM_MEMORY_CONFIG)
        rows = logits.shape[-2]
        last = 0, 0, rows - 1, self._vocab_size - 1
        # By rows, where argmax runs on many cores, and without the padding, whose zeros may be the largest.
        by_row = ttnn.untilize_with_unpadding(whole, output_tensor_end=last, use_multicore=True)
        return ttnn.argmax(ttnn.reshape(by_row, (1, rows, self._vocab_size)), dim=-1)

    def to_host(self, logits: ttnn.Tensor) -> torch.Tensor:
        """What a call returned -> [R, vocab] on the host, all devices' parts, without the padding."""
        return concat_to_host(logits, -1)[0, 0, :, : self._vocab_size]


def _softcapped(logits: ttnn.Tensor, cap: float) -> ttnn.Tensor:
    """cap * tanh(logits / cap), as Gemma 2 bounds them (arXiv:2408.00118)."""
    return ttnn.multiply(ttnn.tanh(ttnn.multiply(logits, 1.0 / cap)), cap)


def _columns(table: torch.Tensor, start: int, count: int) -> torch.Tensor:
    """Columns of [1, 1, dim, vocab], zeros beyond its end."""
    columns = table[..., start : start + count]
    return pad(columns, (0, count - columns.shape[-1]))
