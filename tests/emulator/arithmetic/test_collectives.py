"""Collectives against the real ttnn on simulated N300 and T3K: every case bit for bit, in every mode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.emulator.arithmetic import collectives
from harness.emulator.arithmetic.collectives import Reduction
from harness.emulator.spec.types import DataType

RECORDED = np.load(Path(__file__).parents[1] / "data" / "collectives.npz")
CASES = json.loads(RECORDED["cases"].tobytes())
DTYPES = {"bf16": DataType.BFLOAT16, "bfp8": DataType.BFLOAT8_B, "fp32": DataType.FLOAT32}


def tensors(name: str, dtype: str) -> list[torch.Tensor]:
    words = RECORDED[name].astype(np.int64)
    if dtype == "fp32":
        return list(torch.from_numpy(words).int().view(torch.float32))
    return list(torch.from_numpy(words).to(torch.int16).view(torch.bfloat16))


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_recorded_case_is_bit_exact(name: str) -> None:
    """Line, direct ring and ring; bf16, bfp8 and fp32; 2 and 8 devices."""
    case = CASES[name]
    dtype = DTYPES[case["dtype"]]
    given, expected = (tensors(f"{name}/{part}", case["dtype"]) for part in ("in", "out"))
    if case["op"] == "all_gather":
        made = [collectives.gather(given, 3)]
    else:
        how = collectives.reduction(case["ring"], case["tuned"], given[0].shape, dtype)
        made = collectives.reduce_scatter(given, 3, dtype, how)
        if case["op"] == "all_reduce":
            made = [collectives.gather(made, 3)]
    for ours, theirs in zip(made, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_the_three_programs_differ_in_bits() -> None:
    """Order and grouping matter: a harness that summed exactly would not see what the topology costs."""
    given = tensors("x8m_reduce_scatter_bf16_W256_default_normal/in", "bf16")
    line, direct, ring = (
        torch.cat(collectives.reduce_scatter(given, 3, DataType.BFLOAT16, how), 3) for how in Reduction
    )
    exact = torch.stack([t.double() for t in given]).sum(0)
    for a, b in ((line, direct), (line, ring), (direct, ring)):
        assert not torch.equal(a, b)
    # Relative L2, as recorded: line 4.4e-3, direct 2.9e-3, ring 3.4e-3.
    errors = [((t.double() - exact).norm() / exact.norm()).item() for t in (line, direct, ring)]
    assert errors == pytest.approx([4.4e-3, 2.9e-3, 3.4e-3], rel=0.05)


def test_a_reduction_that_cannot_scatter_is_told() -> None:
    """18 tiles divide by 2 devices and not by 8; a taller tensor scatters over its rows instead."""
    assert collectives.scatter_dim((1, 1, 32, 576), 2) == 3
    assert collectives.scatter_dim((1, 1, 32, 576), 8) is None
    assert collectives.scatter_dim((1, 1, 256, 576), 8) == 2


def test_chunks_of_a_ring_turn() -> None:
    """A slice of more than eight tiles is reduced from the other side in its second chunk."""
    torch.manual_seed(0)
    given = [torch.randn(1, 1, 32, 8 * 16 * 32).bfloat16() for _ in range(8)]
    whole = collectives.reduce_scatter(given, 3, DataType.BFLOAT16, Reduction.RING)[0]
    first, second = (
        [torch.cat([t[..., i * 512 + lo : i * 512 + lo + 256] for i in range(8)], -1) for t in given]
        for lo in (0, 256)
    )
    alone = [
        collectives.reduce_scatter(half, 3, DataType.BFLOAT16, Reduction.RING)[0] for half in (first, second)
    ]
    assert torch.equal(whole[..., :256], alone[0])
    assert not torch.equal(whole[..., 256:], alone[1])
