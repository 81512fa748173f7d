import math

import pytest
import torch

from harness.metrics import ShapeMismatch, agreement_length, edit_distance, flip_cost, token_agreement


def test_counts_by_hand() -> None:
    """Top-1 is equal argmax, top-5 is the device's argmax among the golden's five likeliest."""
    golden = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]]).repeat(4, 1)
    device = torch.zeros(4, 7)
    for row, pick in enumerate((0, 1, 4, 5)):
        device[row, pick] = 1.0
    result = token_agreement(golden, device)
    assert (result.top1, result.top5, result.n) == (0.25, 0.75, 4)
    assert result.misses == (1, 2, 3)
    assert result.misses_top5 == (3,)


def test_equals_topk_on_random_logits() -> None:
    """Against torch.topk on logits without ties, over leading dimensions and several blocks."""
    generator = torch.Generator().manual_seed(0)
    golden = torch.randn(3, 50, 4000, generator=generator)
    device = golden + torch.randn(golden.shape, generator=generator)
    picks = device.argmax(-1, keepdim=True)
    top5 = (golden.topk(5).indices == picks).any(-1).float().mean()
    top1 = (golden.argmax(-1, keepdim=True) == picks).float().mean()
    result = token_agreement(golden, device)
    assert result.top1 == pytest.approx(float(top1))
    assert result.top5 == pytest.approx(float(top5))
    assert 0 < result.top1 < result.top5 < 1


def test_ties_go_to_the_lowest_index() -> None:
    """Of equal logits the first is the argmax, and the sixth of six equal ones is not in the top 5."""
    flat = torch.zeros(1, 6)
    assert token_agreement(flat, flat).top1 == 1.0
    device = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    assert token_agreement(flat, device).top5 == 0.0
    assert token_agreement(flat, device.roll(-1, dims=1)).top5 == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_a_miss(bad: float) -> None:
    """A NaN or Inf at the very place of the golden's argmax, on either or both sides, is no agreement."""
    good = torch.tensor([[0.0, 5.0, 1.0]])
    broken = torch.tensor([[0.0, bad, 1.0]])
    for golden, device in ((good, broken), (broken, good), (broken, broken)):
        result = token_agreement(golden, device)
        assert (result.top1, result.top5) == (0.0, 0.0)


def test_truncated_device_logits_are_refused() -> None:
    """A decode that stopped early does not pass on the rows it has."""
    golden = torch.randn(8, 10)
    with pytest.raises(ShapeMismatch):
        token_agreement(golden, golden[:7])
    with pytest.raises(ValueError, match="at least one row"):
        token_agreement(golden[:0], golden[:0])


def test_agreement_length_stops_at_the_first_difference_or_end() -> None:
    """The common prefix counts; agreement after a difference, or beyond either end, does not."""
    assert agreement_length([1, 2, 3, 4], [1, 2, 9, 4]) == 2
    assert agreement_length([1, 2, 3], [1, 2]) == 2
    assert agreement_length([], [1]) == 0
    assert agreement_length(torch.tensor([5, 6]), [5, 6]) == 2
    with pytest.raises(ValueError, match=r"shape \[1, 2\]"):
        agreement_length(torch.tensor([[5, 6]]), [5, 6])


def test_edit_distance_by_hand() -> None:
    """kitten to sitting is three; a token left out is one, though all behind it stand elsewhere."""
    assert edit_distance(list(b"kitten"), list(b"sitting")) == 3
    assert edit_distance([1, 2, 3, 4, 5], [1, 3, 4, 5]) == 1
    assert edit_distance(torch.tensor([1, 2]), [1, 2]) == 0
    assert edit_distance([], [7, 8]) == 2
    assert edit_distance([7, 8], []) == 2


def test_flip_cost_is_the_goldens_preference_at_the_first_difference() -> None:
    """Near ties cost little, clear errors much, equal continuations nothing and truncated ones everything."""
    logits = torch.tensor([[0.0, 2.0, 1.5], [3.0, 0.0, -1.0], [0.0, 0.0, 9.0]])
    golden = [1, 0, 2]
    assert flip_cost(logits, golden, [1, 0, 2]) == 0.0
    assert flip_cost(logits, golden, [2, 0, 2]) == 0.5
    assert flip_cost(logits, golden, [1, 2, 0]) == 4.0
    assert flip_cost(logits, golden, [1, 0]) == float("inf")
