"""How a model is divided over devices: every head once, sums unchanged, padding that adds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tt_llm import InputError
from tt_llm.config import ModelConfig
from tt_llm.tensor_parallel import TensorParallel, parallel_shape

DEVICES = (1, 2, 3, 4, 8, 12)
LLAMA_70B = {
    "dim": 8192,
    "n_heads": 64,
    "n_kv_heads": 8,
    "head_dim": 128,
    "hidden_dim": 28672,
    "vocab_size": 128256,
}


@pytest.fixture(scope="module")
def config(tiny: Any) -> ModelConfig:
    """SmolLM2's heads: 9 of queries, 3 of keys and values."""
    return ModelConfig.from_folder(tiny("gqa").folder)


@pytest.mark.parametrize("devices", DEVICES)
def test_every_query_head_lies_on_one_device_beside_its_keys(config: ModelConfig, devices: int) -> None:
    """Each query head once; in a device's slot only queries of the key-value head in it."""
    tp = TensorParallel.of(config, devices)
    assert len(tp.q_heads) == len(tp.kv_heads) == devices
    heads = [q for device in tp.q_heads for q in device if q is not None]
    assert sorted(heads) == list(range(9))
    size = tp.local.n_heads // tp.local.n_kv_heads
    for q_heads, kv_heads in zip(tp.q_heads, tp.kv_heads, strict=True):
        for slot, head in enumerate(kv_heads):
            assert {q // 3 for q in q_heads[slot * size : (slot + 1) * size] if q is not None} <= {head}


@pytest.mark.parametrize("devices", DEVICES)
def test_attention_weights_and_outputs_add_up_to_the_whole(config: ModelConfig, devices: int) -> None:
    """Attention head by head over each device's columns, through its rows of WO, sums to the undivided result."""
    tp, width = TensorParallel.of(config, devices), config.head_dim
    q, k, v = (torch.randn(1, 1, 4, heads * width) for heads in (9, 3, 3))
    wo = torch.randn(1, 1, 9 * width, 4)
    whole = attention(q, k, v, 9, 3, width) @ wo
    local = tp.local
    parts = tp.qkv(q, k, v).chunk(devices, -1)
    rows = tp.wo(wo).chunk(devices, -2)
    total = torch.zeros_like(whole)
    for part, row in zip(parts, rows, strict=True):
        sizes = [heads * width for heads in (local.n_heads, local.n_kv_heads, local.n_kv_heads)]
        total += attention(*part.split(sizes, -1), local.n_heads, local.n_kv_heads, width) @ row
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-4)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, n_heads: int, n_kv: int, width: int
) -> torch.Tensor:
    q, k, v = (
        t.unflatten(-1, (n, width)).transpose(2, 3)[0] for t, n in ((q, n_heads), (k, n_kv), (v, n_kv))
    )
    heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return heads.transpose(1, 2).flatten(-2)[None]


def test_repeated_key_value_heads_are_known_by_all_their_locations(config: ModelConfig) -> None:
    """On eight devices each of three heads is held twice, and two devices hold nothing."""
    tp = TensorParallel.of(config, 8)
    assert [tp.kv_head_locations(head) for head in range(3)] == [
        [(2, 0), (3, 0)],
        [(4, 0), (5, 0)],
        [(6, 0), (7, 0)],
    ]
    assert tp.kv_heads[:2] == ((None,), (None,))
    heads = torch.arange(3.0).view(1, 3, 1, 1) + 1
    assert tp.expand_kv(heads).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_widths_are_padded_to_whole_tiles_on_every_device(config: ModelConfig) -> None:
    """Zero columns before the MLP's width and after the residual's; one device keeps the model's own."""
    tp = TensorParallel.of(config, 8)
    assert tp.local.hidden_dim % 32 == 0
    weight = torch.ones(1, 1, 2, config.hidden_dim)
    padded = tp.pad_hidden(weight, -1)
    assert padded.shape[-1] == 8 * tp.local.hidden_dim
    assert padded[..., -config.hidden_dim :].sum() == padded.sum() == weight.sum()
    wide = tp.pad_residual(torch.ones(1, 1, 2, config.dim))
    assert wide.shape[-1] == 8 * tp.residual_shard_dim
    assert wide[..., : config.dim].sum() == wide.sum() == 2 * config.dim
    assert TensorParallel.of(config, 1).pad_hidden(weight, -1) is weight
    assert TensorParallel.of(config, 1).residual_shard_dim == config.dim
    assert TensorParallel.of(config, 1).local == config


def test_more_devices_than_tiles_are_refused(config: ModelConfig, one_line: Any) -> None:
    """The line names the dimension, what it is, and what would fit."""
    with pytest.raises(InputError) as caught:
        TensorParallel.of(config, 64)
    message = one_line(caught.value)
    assert message.startswith("64 devices: ")
    assert "at most" in message


@pytest.mark.parametrize(
    ("mesh", "all_gather_matmul", "hidden_size", "shape"),
    [
        ((8, 4), False, 8192, (8, 4)),
        ((2, 4), False, 2048, (2, 4)),
        ((8, 4), False, 576, (32, 1)),  # SmolLM2's 18 tiles do not divide by four columns
        ((2, 2), False, 576, (2, 2)),
        ((8, 4), True, 8192, (32, 1)),
        ((1, 8), False, 8192, (8, 1)),
        ((8, 1), False, 8192, (8, 1)),
        ((1, 1), False, 8192, (1, 1)),
    ],
)
def test_weights_are_sharded_in_2d_where_sums_may_be_split_and_the_residual_divides(
    config: ModelConfig,
    mesh: tuple[int, int],
    all_gather_matmul: bool,
    hidden_size: int,
    shape: tuple[int, int],
) -> None:
    """Else all devices lie in a row."""
    assert parallel_shape(replace(config, dim=hidden_size), mesh, all_gather_matmul) == shape


def test_heads_divide_over_the_rows_and_a_row_shares_them(config: ModelConfig) -> None:
    """A 70B's eight key-value heads on 8x4: one a row, on its four devices, none repeated beyond them."""
    tp = TensorParallel.of(replace(config, **LLAMA_70B), 8, 4)
    assert tp.devices == len(tp.kv_heads) == len(tp.q_heads) == 32
    assert (tp.local.n_heads, tp.local.n_kv_heads, tp.local.hidden_dim) == (8, 1, 3584)
    assert tp.local.vocab_size == 4032  # over all devices, in whole tiles
    assert [tp.kv_head_locations(head) for head in (0, 7)] == [
        [(0, 0), (1, 0), (2, 0), (3, 0)],
        [(28, 0), (29, 0), (30, 0), (31, 0)],
    ]
    assert tp.q_heads[4] == tp.q_heads[7] == tuple(range(8, 16))
    heads = torch.arange(8.0).view(1, 8, 1, 1)
    assert tp.expand_kv(heads).flatten().tolist() == [d // 4 for d in range(32)]


def test_a_row_sums_its_columns_and_the_rows_sum_the_heads(config: ModelConfig) -> None:
    """QKV, attention head by head, and WO from slices along both axes, added up by axis: the undivided result."""
    tp, width = TensorParallel.of(config, 2, 2), config.head_dim
    x = torch.randn(1, 1, 4, config.dim)
    q, k, v = (torch.randn(1, 1, config.dim, heads * width) for heads in (9, 3, 3))
    wo = torch.randn(1, 1, 9 * width, config.dim)
    whole = attention(x @ q, x @ k, x @ v, 9, 3, width) @ wo
    local = tp.local
    sizes = [heads * width for heads in (local.n_heads, local.n_kv_heads, local.n_kv_heads)]
    total = torch.zeros_like(whole)
    for columns, rows in zip(tp.qkv(q, k, v).chunk(2, -1), tp.wo(wo).chunk(2, -2), strict=True):
        projected = sum(part @ own for part, own in zip(x.chunk(2, -1), columns.chunk(2, -2), strict=True))
        heads = attention(*projected.split(sizes, -1), local.n_heads, local.n_kv_heads, width)
        total += torch.cat([heads @ own for own in rows.chunk(2, -1)], -1)
    torch.testing.assert_close(total, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (
            16,
            2,
            "16 rows of a 16x2 mesh: intermediate_size 384 is 12 tiles of 32, it splits over at most 12 rows",
        ),
        (12, 4, "48 devices: vocab_size 1000 is 32 tiles of 32, it splits over at most 32 devices"),
    ],
)
def test_what_does_not_fit_a_2d_sharding_is_refused(
    config: ModelConfig, rows: int, columns: int, said: str, one_line: Any
) -> None:
    """The MLP lies over the rows, the vocabulary over all devices: the line says which, how wide, and what would fit."""
    with pytest.raises(InputError) as caught:
        TensorParallel.of(config, rows, columns)
    assert one_line(caught.value) == said
