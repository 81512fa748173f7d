"""How a model is divided over devices: every head once, sums unchanged, padding that adds nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tt_llm import InputError
from tt_llm.config import ModelConfig
from tt_llm.split import split

DEVICES = (1, 2, 3, 4, 8, 12)


@pytest.fixture(scope="module")
def config(tiny: Any) -> ModelConfig:
    """SmolLM2's heads: 9 of queries, 3 of keys and values."""
    return ModelConfig.from_folder(tiny("gqa").folder)


@pytest.mark.parametrize("devices", DEVICES)
def test_every_query_head_lies_on_one_device_beside_its_keys(config: ModelConfig, devices: int) -> None:
    """Each query head once; in a device's slot only queries of the key-value head in it."""
    shares = split(config, devices)
    assert len(shares.queries) == len(shares.kv) == devices
    placed = [q for heads in shares.queries for q in heads if q is not None]
    assert sorted(placed) == list(range(9))
    size = shares.local.n_heads // shares.local.n_kv_heads
    for queries, kv in zip(shares.queries, shares.kv, strict=True):
        for slot, head in enumerate(kv):
            assert {q // 3 for q in queries[slot * size : (slot + 1) * size] if q is not None} <= {head}


@pytest.mark.parametrize("devices", DEVICES)
def test_attention_weights_and_outputs_add_up_to_the_whole(config: ModelConfig, devices: int) -> None:
    """Attention head by head over each device's columns, through its rows of WO, sums to the undivided result."""
    shares, width = split(config, devices), config.head_dim
    q, k, v = (torch.randn(1, 1, 4, heads * width) for heads in (9, 3, 3))
    wo = torch.randn(1, 1, 9 * width, 4)
    whole = attended(q, k, v, 9, 3, width) @ wo
    local = shares.local
    parts = shares.qkv(q, k, v).chunk(devices, -1)
    rows = shares.wo(wo).chunk(devices, -2)
    total = torch.zeros_like(whole)
    for part, row in zip(parts, rows, strict=True):
        sizes = [heads * width for heads in (local.n_heads, local.n_kv_heads, local.n_kv_heads)]
        total += attended(*part.split(sizes, -1), local.n_heads, local.n_kv_heads, width) @ row
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-4)


def attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, n_heads: int, n_kv: int, width: int
) -> torch.Tensor:
    q, k, v = (
        t.unflatten(-1, (n, width)).transpose(2, 3)[0] for t, n in ((q, n_heads), (k, n_kv), (v, n_kv))
    )
    heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return heads.transpose(1, 2).flatten(-2)[None]


def test_repeated_key_value_heads_are_known_by_all_their_places(config: ModelConfig) -> None:
    """On eight devices each of three heads is held twice, and two devices hold nothing."""
    shares = split(config, 8)
    assert [shares.places_of_kv(head) for head in range(3)] == [
        [(2, 0), (3, 0)],
        [(4, 0), (5, 0)],
        [(6, 0), (7, 0)],
    ]
    assert shares.kv[:2] == ((None,), (None,))
    heads = torch.arange(3.0).view(1, 3, 1, 1) + 1
    assert shares.kv_heads(heads).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_widths_are_padded_to_whole_tiles_on_every_device(config: ModelConfig) -> None:
    """Zero columns before the MLP's width and after the stream's; one device keeps the model's own."""
    shares = split(config, 8)
    assert shares.local.hidden_dim % 32 == 0
    weight = torch.ones(1, 1, 2, config.hidden_dim)
    padded = shares.hidden(weight, -1)
    assert padded.shape[-1] == 8 * shares.local.hidden_dim
    assert padded[..., -config.hidden_dim :].sum() == padded.sum() == weight.sum()
    wide = shares.stream(torch.ones(1, 1, 2, config.dim))
    assert wide.shape[-1] == 8 * shares.stream_share
    assert wide[..., : config.dim].sum() == wide.sum() == 2 * config.dim
    assert split(config, 1).hidden(weight, -1) is weight
    assert split(config, 1).stream_share == config.dim
    assert split(config, 1).local == config


def test_more_devices_than_tiles_are_refused(config: ModelConfig, one_line: Any) -> None:
    """The line names the dimension, what it is, and what would fit."""
    with pytest.raises(InputError) as caught:
        split(config, 64)
    message = one_line(caught.value)
    assert message.startswith("64 devices: ")
    assert "at most" in message
