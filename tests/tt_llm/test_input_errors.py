"""Bad calls of load, prefill_forward, decode_forward and generate: one line each, naming the value and what is right."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tt_llm
from tt_llm import InputError
from tt_llm.kv_cache import PagedKVCache

USERS, LENGTH = 2, 100


@pytest.fixture
def generator(tiny: Any, load: Any) -> tt_llm.Generator:
    return load(tiny("mha"), users=USERS, max_seq_len=LENGTH)


def ids(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int32)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"precision": "fp8"}, ["'fp8'", "accuracy, performance, bfp4_mlp"]),
        ({"max_batch_size": 0}, ["max_batch_size 0", "1 to 32"]),
        ({"max_batch_size": 33}, ["max_batch_size 33", "1 to 32"]),
        ({"max_seq_len": 0}, ["max_seq_len 0", "1 to 512"]),
        ({"max_seq_len": 513}, ["max_seq_len 513", "1 to 512"]),
        ({"max_seq_len": 128, "n_layers": 3}, ["n_layers 3", "1 to 2"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_load_refuses(tiny: Any, mesh_device: Any, one_line: Any, options: Any, parts: list[str]) -> None:
    """Precision, batch, length and layers are checked before anything is put on the device."""
    with pytest.raises(InputError) as caught:
        tt_llm.load(str(tiny("mha").folder), mesh_device, **options)
    assert all(part in one_line(caught.value) for part in parts)


def test_load_refuses_a_folder_without_a_tokenizer(
    tiny: Any, mesh_device: Any, one_line: Any, tmp_path: Path
) -> None:
    """A model needs its tokenizer's files."""
    folder = shutil.copytree(tiny("mha").folder, tmp_path / "copy")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="tokenizer cannot be read") as caught:
        tt_llm.load(str(folder), mesh_device, max_seq_len=128)
    assert str(folder) in one_line(caught.value)


@pytest.mark.parametrize(
    ("tokens", "options", "parts"),
    [
        (ids(3, 5), {}, ["[3, 5]", "1 to 2 users"]),
        (ids(0, 5), {}, ["[0, 5]", "1 to 2 users"]),
        (ids(5), {}, ["[5]", "[B, S]"]),
        (ids(2, 0), {}, ["[2, 0]", "1 to 100 tokens"]),
        (ids(1, 101), {}, ["[1, 101]", "1 to 100 tokens"]),
        (torch.tensor([[3, 1000]]), {}, ["ids 3 to 1000", "0 to 999"]),
        (torch.tensor([[-1, 3]]), {}, ["ids -1 to 3", "0 to 999"]),
        (ids(2, 5), {"prompt_lens": []}, ["prompt_lens []", "2 lengths", "1 and 5"]),
        (ids(2, 5), {"prompt_lens": [5]}, ["prompt_lens [5]", "2 lengths"]),
        (ids(2, 5), {"prompt_lens": [5, 0]}, ["prompt_lens [5, 0]", "1 and 5"]),
        (ids(2, 5), {"prompt_lens": [6, 5]}, ["prompt_lens [6, 5]", "1 and 5"]),
        (ids(2, 5), {"page_table": ids(1, 4)}, ["[1, 4]", "each of the 2 users"]),
        (ids(2, 5), {"page_table": torch.tensor([[0, 1, 2, 3], [4, 5, 6, 8]])}, ["0 to 8", "0 to 7"]),
        (ids(2, 33), {"page_table": ids(2, 1)}, ["1 blocks", "32 positions", "33"]),
    ],
)
def test_prefill_refuses(
    generator: Any, one_line: Any, tokens: torch.Tensor, options: Any, parts: list[str]
) -> None:
    """Shapes, ids, lengths and page tables that cannot be."""
    with pytest.raises(InputError) as caught:
        generator.prefill_forward(tokens, **options)
    assert all(part in one_line(caught.value) for part in parts)


@pytest.mark.parametrize(
    ("tokens", "positions", "options", "parts"),
    [
        (ids(3, 1), [1, 1, 1], {}, ["[3, 1]", "1 to 2 users"]),
        (ids(2, 2), [1, 1], {}, ["[2, 2]", "[2]", "[B, 1] and [B]"]),
        (ids(2, 1), [1], {}, ["[2, 1]", "[1]", "[B, 1] and [B]"]),
        (ids(2, 1), [0, 100], {}, ["position 100", "the 100 positions"]),
        (ids(2, 1), [0, 64], {"page_table": ids(2, 2)}, ["position 64", "the 64 positions"]),
        (ids(2, 1), [0, -2], {}, ["position -2", "-1", "0 to 99"]),
        (torch.tensor([[1000]]), [0], {}, ["ids 1000 to 1000", "0 to 999"]),
        (ids(2, 1), [0, 0], {"page_table": ids(1, 4)}, ["[1, 4]", "each of the 2 users"]),
        (ids(1, 1), [0], {"page_table": torch.tensor([[-1]])}, ["-1 to -1", "0 to 7"]),
    ],
)
def test_decode_refuses(
    generator: Any, one_line: Any, tokens: torch.Tensor, positions: list[int], options: Any, parts: list[str]
) -> None:
    """Shapes, ids, page tables, and positions that no page holds."""
    with pytest.raises(InputError) as caught:
        generator.decode_forward(tokens, torch.tensor(positions), **options)
    assert all(part in one_line(caught.value) for part in parts)


def test_blocks_are_counted_in_the_callers_cache(generator: Any, one_line: Any) -> None:
    """A page table is held against the cache it is for, smaller or larger than the generator's own."""
    own = generator.model.tp, generator.precision.kv_cache
    small, large = (
        PagedKVCache(mesh_device=generator.mesh_device, tp=own[0], n_blocks=n, dtype=own[1]) for n in (2, 20)
    )
    with pytest.raises(InputError) as caught:
        generator.prefill_forward(ids(1, 5), kv_cache=small)
    assert "blocks 0 to 3, the cache has 0 to 1" in one_line(caught.value)
    table = torch.tensor([[19, 18, 17, 16]])
    assert generator.prefill_forward(ids(1, 5), page_table=table, kv_cache=large).shape == (1, 1, 1000)


@pytest.mark.parametrize(
    ("prompts", "new", "parts"),
    [
        ([], 1, ["at least one prompt"]),
        ([[1], []], 1, ["at least one token"]),
        ([[1]] * 3, 1, ["[3, 1]", "1 to 2 users"]),
        ([[1] * 95], 10, ["95 prompt tokens", "10 new", "100"]),
        ([[1000]], 1, ["ids 1000 to 1000", "0 to 999"]),
    ],
)
def test_generate_refuses(
    generator: Any, one_line: Any, prompts: list[list[int]], new: int, parts: list[str]
) -> None:
    """No prompt, an empty one, too many, too long, or with unknown ids."""
    with pytest.raises(InputError) as caught:
        generator.generate(prompts, new)
    assert all(part in one_line(caught.value) for part in parts)
