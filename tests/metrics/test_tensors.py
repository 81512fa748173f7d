import math

import numpy as np
import pytest
import scipy.stats
import torch

from harness.metrics import ShapeMismatch, TensorComparison, compare_chunks, compare_tensors, pcc
from harness.metrics import tensors as implementation


def pair(*shape: int, noise: float = 0.1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    golden = torch.randn(shape, generator=generator)
    return golden + noise * torch.randn(shape, generator=generator), golden


def reference_pcc(actual: torch.Tensor, golden: torch.Tensor) -> float:
    a, g = (t.double().flatten().numpy() for t in (actual, golden))
    return float(scipy.stats.pearsonr(a, g).statistic)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 33, 17), (5, 1), (1, 4096)])
def test_pcc_equals_scipy(shape: tuple[int, ...]) -> None:
    """PCC agrees with scipy's to twelve digits, whatever the shape."""
    actual, golden = pair(*shape)
    assert pcc(actual, golden) == pytest.approx(reference_pcc(actual, golden), abs=1e-12)


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_block_size_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows longer and shorter than a block, in pieces and whole, give the same comparison."""
    actual, golden = pair(13, 50)
    actual += 1000
    whole = compare_tensors(actual, golden)
    monkeypatch.setattr(implementation, "BLOCK_ELEMENTS", block)
    pieces = compare_tensors(actual, golden)
    for name in set(TensorComparison.__dataclass_fields__) - {"worst_slices"}:
        assert getattr(pieces, name) == pytest.approx(getattr(whole, name), rel=1e-10), name
    assert pieces.worst_slices[0] == (whole.worst_slices[0][0], pytest.approx(whole.worst_slices[0][1]))


@pytest.mark.parametrize("mean", [1e3, 1e6, -1e8])
def test_pcc_survives_a_mean_far_above_the_spread(mean: float) -> None:
    """With a mean up to 1e8 times the spread PCC still agrees with scipy on the centred data."""
    actual, golden = (t.double() for t in pair(64, 300))
    shifted_actual, shifted_golden = actual + mean, golden + mean
    centred = reference_pcc(shifted_actual - mean, shifted_golden - mean)  # what the rounded inputs hold
    assert pcc(shifted_actual, shifted_golden) == pytest.approx(centred, abs=1e-9)


def test_pcc_of_rows_with_different_offsets() -> None:
    """Pooling rows keeps the part of the correlation that lies between their means."""
    actual, golden = pair(20, 30)
    offsets = torch.arange(20.0)[:, None] * 10
    assert pcc(actual + offsets, golden - offsets) == pytest.approx(
        reference_pcc(actual + offsets, golden - offsets), abs=1e-12
    )


def test_bfloat16_and_integers_are_read_as_they_are() -> None:
    """Inputs of mixed dtypes are compared by value."""
    actual, golden = pair(8, 64)
    assert pcc(actual.bfloat16(), golden) == pytest.approx(
        reference_pcc(actual.bfloat16(), golden), abs=1e-12
    )
    assert pcc(torch.arange(10), torch.arange(10).float()) == pytest.approx(1.0, abs=1e-15)


def test_views_that_are_not_contiguous() -> None:
    """A transposed view compares like its copy, and inputs are left untouched."""
    actual, golden = pair(6, 9)
    before = actual.clone()
    assert compare_tensors(actual.T, golden.T) == compare_tensors(actual.T.clone(), golden.T.clone())
    assert torch.equal(actual, before)


def test_shape_mismatch_names_both_shapes() -> None:
    """Tensors of equal element count but different shape are refused, not flattened."""
    with pytest.raises(ShapeMismatch, match=r"actual \[2, 6\], golden \[3, 4\]"):
        pcc(torch.zeros(2, 6), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="shape mismatch"):
        compare_tensors(torch.zeros(4), torch.zeros(1, 4))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -3e7])
def test_a_constant_tensor_never_correlates(value: float) -> None:
    """A constant on either side or on both is the state "constant" and its PCC is nan."""
    constant, varying = torch.full((40, 37), value), pair(40, 37)[0]
    both = compare_tensors(constant, constant.clone())
    assert (both.state, both.actual_constant, both.golden_constant) == ("constant", True, True)
    assert math.isnan(both.pcc)
    dead = compare_tensors(constant, varying)
    assert (dead.state, dead.actual_constant, dead.golden_constant) == ("constant", True, False)
    assert math.isnan(dead.pcc)
    assert math.isnan(pcc(varying, constant))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["actual", "golden", "both"])
def test_nonfinite_never_correlates(bad: float, side: str) -> None:
    """One NaN or Inf on either side, even the same on both, is the state "nonfinite", counted, and its PCC is nan."""
    _, golden = pair(4, 300)
    actual = golden.clone()
    if side in ("actual", "both"):
        actual[2, 5] = bad
    if side in ("golden", "both"):
        golden[2, 5] = bad
    result = compare_tensors(actual, golden)
    assert result.state == "nonfinite"
    assert (result.nonfinite_actual, result.nonfinite_golden) == (
        int(side != "golden"),
        int(side != "actual"),
    )
    assert result.nonfinite == result.nonfinite_actual + result.nonfinite_golden
    assert math.isnan(result.pcc)
    assert math.isnan(result.worst_row_pcc)
    assert result.worst_row_pcc_index == (2,)


def test_empty_is_not_equal() -> None:
    """Nothing compared with nothing is the state "empty", not a pass."""
    result = compare_tensors(torch.zeros(0, 4), torch.zeros(0, 4))
    assert result.state == "empty"
    assert math.isnan(result.pcc)
    assert math.isnan(result.rel_l2)


def test_scale_is_seen_by_the_norms_only() -> None:
    """Doubling leaves PCC at 1 but gives a norm ratio of 2, a norm error of 1 and a relative L2 of 1."""
    _, golden = pair(16, 64)
    result = compare_tensors(2 * golden, golden)
    assert result.pcc == pytest.approx(1.0, abs=1e-12)
    assert result.norm_ratio == pytest.approx(2.0, rel=1e-12)
    assert result.norm_error == pytest.approx(1.0, rel=1e-12)
    assert result.rel_l2 == pytest.approx(1.0, rel=1e-12)


def test_figures_equal_numpy() -> None:
    """Relative L2, norm ratio and maximum error agree with numpy in float64."""
    actual, golden = pair(16, 64)
    a, g = actual.double().numpy(), golden.double().numpy()
    result = compare_tensors(actual, golden)
    assert result.rel_l2 == pytest.approx(np.linalg.norm(a - g) / np.linalg.norm(g), rel=1e-12)
    assert result.norm_ratio == pytest.approx(np.linalg.norm(a) / np.linalg.norm(g), rel=1e-12)
    assert result.max_abs == np.abs(a - g).max()
    assert (result.n, result.rows, result.rows_without_pcc) == (1024, 16, 0)
    assert result.state == "ok"


def test_permuted_rows_are_caught() -> None:
    """Rows in the wrong order keep the norm ratio at 1 and ruin PCC and the worst row."""
    _, golden = pair(16, 64)
    result = compare_tensors(golden.roll(1, dims=0), golden)
    assert result.norm_ratio == pytest.approx(1.0, abs=1e-12)
    assert result.pcc < 0.2
    assert result.worst_row_pcc < 0.2


def test_worst_row_is_seen_behind_a_massive_activation() -> None:
    """With one row of norm 20,000 the whole-tensor PCC of a broken row reads 1; the worst row names it."""
    _, golden = pair(2, 8, 64)
    golden[0, 0, 3] = 20_000.0
    actual = golden.clone()
    actual[1, 5] = -golden[1, 5]
    result = compare_tensors(actual, golden)
    assert result.pcc > 0.9999
    assert result.worst_row_pcc == pytest.approx(-1.0, abs=1e-12)
    assert result.worst_row_pcc_index == (1, 5)
    assert result.worst_row_rel_l2 == pytest.approx(2.0, rel=1e-12)
    assert result.worst_row_rel_l2_index == (1, 5)


def test_worst_row_equals_a_loop_over_rows() -> None:
    """The worst row is the minimum over scipy's row by row PCC."""
    actual, golden = pair(32, 48, noise=0.5)
    rows = [reference_pcc(a, g) for a, g in zip(actual, golden, strict=True)]
    result = compare_tensors(actual, golden)
    assert result.worst_row_pcc == pytest.approx(min(rows), abs=1e-12)
    assert result.worst_row_pcc_index == (int(np.argmin(rows)),)


def test_a_zero_golden_row_is_left_to_relative_l2() -> None:
    """Where a golden row is zero PCC is undefined and says so; a non-zero actual there is infinitely wrong."""
    actual, golden = pair(4, 32)
    golden[1] = 0
    actual[1] = 0
    clean = compare_tensors(actual, golden)
    assert clean.rows_without_pcc == 1
    assert clean.worst_row_pcc_index != (1,)
    assert math.isfinite(clean.worst_row_rel_l2)
    actual[1, 7] = 1e-3
    dirty = compare_tensors(actual, golden)
    assert dirty.worst_row_rel_l2 == math.inf
    assert dirty.worst_row_rel_l2_index == (1,)


def test_a_dead_actual_row_is_the_worst() -> None:
    """A row that is constant where the golden's varies is worse than any correlation: nan, with its index."""
    actual, golden = pair(4, 32)
    actual[3] = 0
    result = compare_tensors(actual, golden)
    assert math.isnan(result.worst_row_pcc)
    assert result.worst_row_pcc_index == (3,)
    assert result.state == "ok"


def test_no_row_to_judge() -> None:
    """Rows of one element have no PCC: no index, nan, and all rows counted as not judged."""
    actual, golden = pair(6, 1)
    result = compare_tensors(actual, golden)
    assert result.worst_row_pcc_index is None
    assert math.isnan(result.worst_row_pcc)
    assert result.rows_without_pcc == 6


def test_zero_against_zero() -> None:
    """Two zero tensors have relative L2 0 and norm ratio 1, and still do not pass as correlated."""
    result = compare_tensors(torch.zeros(3, 4), torch.zeros(3, 4))
    assert (result.rel_l2, result.norm_ratio, result.state) == (0.0, 1.0, "constant")
    against_zero = compare_tensors(torch.ones(3, 4), torch.zeros(3, 4))
    assert (against_zero.rel_l2, against_zero.norm_ratio) == (math.inf, math.inf)


def test_ulp_is_bfloat16s_at_the_goldens_magnitude() -> None:
    """1.0 and 1.99 have ulp 2^-7, 2.0 has 2^-6, and a zero golden is left out."""
    golden = torch.tensor([1.0, 1.9921875, -2.0, 0.0])
    actual = golden + torch.tensor([2.0**-7, 3 * 2.0**-7, 2.0**-6, 5.0])
    result = compare_tensors(actual, golden)
    assert result.max_ulp == 3.0
    assert result.mean_ulp == pytest.approx(5 / 3)


def test_rounding_to_bfloat16_is_half_an_ulp() -> None:
    """Round to nearest bfloat16 is never more than half an ulp off."""
    _, golden = pair(64, 64)
    result = compare_tensors(golden.bfloat16(), golden)
    assert 0.4 < result.max_ulp <= 0.5


def test_cosine_is_the_angles() -> None:
    """Against torch in float64, with means that PCC takes off; of a zero vector it is undefined."""
    actual, golden = pair(30, 70)
    actual, golden = actual + 2, golden + 3
    expected = torch.nn.functional.cosine_similarity(
        actual.double().flatten(), golden.double().flatten(), dim=0
    )
    assert compare_tensors(actual, golden).cosine == pytest.approx(float(expected), abs=1e-12)
    assert math.isnan(compare_tensors(torch.zeros(3, 4), golden[:3, :4]).cosine)


def test_worst_user_head_and_position_are_named() -> None:
    """Noise planted in one user, one head and one position is found in each dimension, beside the worst row."""
    _, golden = pair(3, 4, 5, 32)
    actual = golden.clone()
    actual[2] += 0.1
    actual[:, 1] += 0.2
    actual[:, :, 3] += 0.3
    comparison = compare_tensors(actual, golden).worst_slices
    assert {dim: index for dim, (index, _) in comparison.items()} == {0: 2, 1: 1, 2: 3}
    expected = (actual - golden)[:, :, 3].double().norm() / golden[:, :, 3].double().norm()
    assert comparison[2][1] == pytest.approx(float(expected))
    actual[0, 0, 0, 0] = math.nan
    assert {dim: index for dim, (index, _) in compare_tensors(actual, golden).worst_slices.items()} == {
        0: 0,
        1: 0,
        2: 0,
    }


def test_a_dimension_of_one_has_no_worst() -> None:
    """[1, 6, 8] has positions to choose from and one user."""
    assert set(compare_tensors(*pair(1, 6, 8)).worst_slices) == {1}


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_chunks_give_what_the_whole_gives(mean: float) -> None:
    """A tensor in chunks along its first dimension compares as the whole, to rounding."""
    actual, golden = (t.double() + mean for t in pair(11, 6, 40))
    whole = compare_tensors(actual, golden)
    parts = compare_chunks(zip(actual.split(4), golden.split(4), strict=True))
    for name in TensorComparison.__dataclass_fields__:
        value = getattr(whole, name)
        if isinstance(value, float | int):
            assert getattr(parts, name) == pytest.approx(value, rel=1e-12), name
    assert parts.worst_row_pcc_index == whole.worst_row_pcc_index
    assert {dim: index for dim, (index, _) in parts.worst_slices.items()} == {
        dim: index for dim, (index, _) in whole.worst_slices.items()
    }


def test_chunks_of_different_tensors_are_refused() -> None:
    """Chunks that differ beyond the first dimension, pairs that differ, and no chunk at all are each one line."""
    a, b = torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)
    with pytest.raises(ValueError, match=r"\[2, 3, 4\], then \[2, 5, 4\]"):
        compare_chunks([(a, a), (b, b)])
    with pytest.raises(ShapeMismatch):
        compare_chunks([(a, b)])
    with pytest.raises(ValueError, match="no chunk"):
        compare_chunks([])


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_a_side_far_below_the_other_keeps_its_digits(factor: float) -> None:
    """An actual a billionth as large as the golden, or as much larger, has its own norm and the same PCC."""
    actual, golden = (t.double() for t in pair(16, 200))
    result = compare_tensors(actual * factor, golden)
    assert result.pcc == pytest.approx(reference_pcc(actual, golden), abs=1e-12)
    assert result.norm_ratio == pytest.approx(float(actual.norm() / golden.norm()) * factor)
