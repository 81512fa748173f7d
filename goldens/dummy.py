"""Dummy goldens: every tensor has the shape the catalog says and is zero. For a device that computes nothing."""

from __future__ import annotations

from typing import Protocol

import torch

from goldens.catalog import GoldenSpec, assemble, logit_rows, pad_prompts, points
from goldens.sketch import dummy_sketch
from goldens.store import Golden, Tensors

PROMPT_LENGTHS = (5, 33, 8, 32)  # of the generate golden: on both sides of a tile's edge


class Sizes(Protocol):
    """What the shapes depend on, in elements."""

    @property
    def dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def n_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


def dummy_golden(spec: GoldenSpec, sizes: Sizes) -> Golden:
    """The golden of a spec for a model of those sizes; positions are real, all else is zero, token ids too."""
    if spec.module == "generate":
        logits = _zeros(spec.steps, sizes.vocab_size)
        inputs, outputs = pad_prompts(
            [[0] * length for length in (PROMPT_LENGTHS * spec.batch)[: spec.batch]],
            [([0] * spec.steps, logits)] * spec.batch,
        )
    else:
        tokens = torch.zeros(spec.batch, spec.total_len, dtype=torch.int64)
        taps: Tensors = {point: _zeros(*_shape(spec, point, sizes)) for point in points(spec)}
        inputs, outputs = assemble(spec, tokens, taps)
        if spec.module == "text":
            inputs["scored"] = torch.zeros(tokens.shape, dtype=torch.bool)
        if spec.kept == "sketch":
            outputs = dummy_sketch(tuple(outputs["output"].shape[:-1]), sizes.vocab_size)
    return Golden(inputs, outputs, {"name": spec.name})


def _shape(spec: GoldenSpec, point: str, sizes: Sizes) -> tuple[int, ...]:
    """Of a point of `Reference.run` over tokens [batch, total_len]."""
    tap = point.rpartition(".")[2]
    rows = logit_rows(spec)
    length = spec.total_len if rows is None else len(rows)
    if tap[0] in "qkv":
        heads = sizes.n_heads if tap[0] == "q" else sizes.n_kv_heads
        return spec.batch, heads, length, sizes.head_dim
    wide = point in ("logits", "lm_head.output")
    return spec.batch, length, sizes.vocab_size if wide else sizes.dim


def _zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(()).expand(shape)  # one element in memory
