"""Bit-exact shares, ulps of each format, and the error to an exact result."""

from __future__ import annotations

import math

import pytest
import torch

from harness.conformance.numerics.agreement import agreement, error, ulp


def test_ulp_of_bf16_and_fp32_follows_each_value() -> None:
    """One ulp of 1.5 is 2^-7 in bf16, 2^-23 in float32; below the smallest normal it is that of the smallest normal."""
    values = torch.tensor([1.5, -1.5, 2.0, 0.0])
    assert ulp(values, "BFLOAT16").tolist() == [2.0**-7, 2.0**-7, 2.0**-6, 2.0**-133]
    assert ulp(values, "FLOAT32")[0] == 2.0**-23


@pytest.mark.parametrize(("dtype", "bits"), [("BFLOAT8_B", 6), ("BFLOAT4_B", 2)])
def test_ulp_of_a_block_float_is_its_blocks(dtype: str, bits: int) -> None:
    """Sixteen neighbours share the ulp of the largest of them; a row's tail is a block of its own."""
    values = torch.full((1, 20), 0.25)
    values[0, 3] = -5.0
    expected = [2.0 ** (2 - bits)] * 16 + [2.0 ** (-2 - bits)] * 4
    assert ulp(values, dtype)[0].tolist() == expected


def test_equal_bits_and_nothing_else_is_exact() -> None:
    """NaN equals NaN; a zero of the other sign is no ulp away and still not bit exact."""
    recorded = torch.tensor([[1.0, math.nan, 0.0, 4.0]])
    ours = torch.tensor([[1.0, math.nan, -0.0, 4.03125]])
    agreed = agreement(ours, recorded, "BFLOAT16")
    assert agreed.bit_exact == 0.5
    assert agreed.max_ulp == 1.0
    assert agreed.within_2ulp == 1.0


def test_histogram_bins_ulps() -> None:
    """Shares of 0, 1, 2, 3 to 4, 5 to 16 and more ulps, in percent where a report shows them."""
    recorded = torch.full((1, 8), 1.0)
    ours = recorded + torch.tensor([[0, 0, 1, 2, 3, 4, 16, 17]]) * 2.0**-7
    agreed = agreement(ours, recorded, "BFLOAT16")
    assert agreed.histogram == (0.25, 0.125, 0.125, 0.25, 0.125, 0.125)
    assert agreed.ulps == "25/12.5/12.5/25/12.5/12.5"
    assert agreed.within_2ulp == 0.5


def test_an_infinity_in_the_wrong_place_is_infinitely_far() -> None:
    """A value that is finite on one side only is counted in the last bin and rules the maximum."""
    agreed = agreement(torch.tensor([[1.0, math.inf]]), torch.tensor([[1.0, 2.0]]), "BFLOAT16")
    assert agreed.max_ulp == math.inf
    assert agreed.histogram[-1] == 0.5


def test_other_shapes_are_refused() -> None:
    """Outputs of different shapes are not compared."""
    with pytest.raises(ValueError, match="shapes differ"):
        agreement(torch.zeros(2, 2), torch.zeros(2, 3), "BFLOAT16")


def test_gain_is_what_pcc_does_not_see() -> None:
    """A result shrunk by 2.2% has no 1-PCC, and a gain and ratio of norms of .978."""
    exact = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance = error(0.978 * exact, exact)
    assert distance.gap == pytest.approx(0, abs=1e-12)
    assert distance.gain == pytest.approx(0.978)
    assert distance.norm_ratio == pytest.approx(0.978)
    assert distance.gain_stderr == pytest.approx(0, abs=1e-9)


def test_comparing_leaves_the_tensors_as_they_were() -> None:
    """float64 operands are not changed in place."""
    exact = torch.randn(8, 8, dtype=torch.float64)
    before = exact.clone()
    error(exact.float(), exact)
    assert torch.equal(exact, before)
