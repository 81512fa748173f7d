import math

import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats
import torch

from harness.metrics import ShapeMismatch, kl_divergence
from harness.metrics import divergence as implementation


def logits(*shape: int, noise: float = 0.1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    golden = 4 * torch.randn(shape, generator=generator)
    return golden, golden + noise * torch.randn(shape, generator=generator)


def reference(golden: torch.Tensor, device: torch.Tensor) -> np.ndarray:
    p = scipy.special.softmax(golden.double().numpy(), axis=-1)
    q = scipy.special.softmax(device.double().numpy(), axis=-1)
    return np.asarray(scipy.special.rel_entr(p, q).sum(-1)).reshape(-1)


def test_equals_scipy_and_its_quantiles_numpys() -> None:
    """Per-token KL, mean, standard error, maximum and quantiles agree with scipy and numpy."""
    golden, device = logits(2, 40, 501)
    expected = reference(golden, device)
    result = kl_divergence(golden, device)
    np.testing.assert_allclose(result.per_token.numpy(), expected, rtol=1e-9, atol=1e-13)
    assert result.mean == pytest.approx(expected.mean())
    assert result.stderr == pytest.approx(scipy.stats.sem(expected))
    assert (result.max, result.worst_row, result.n) == (pytest.approx(expected.max()), expected.argmax(), 80)
    for percent, value in result.quantiles.items():
        assert value == pytest.approx(np.percentile(expected, percent))


def test_jensen_shannon_equals_scipys() -> None:
    """The mean over tokens of scipy's distance squared; symmetric, 0 for equals, ln 2 where nothing is shared."""
    golden, device = logits(2, 20, 301, noise=1.0)
    p, q = (scipy.special.softmax(t.double().numpy(), axis=-1).reshape(-1, 301) for t in (golden, device))
    expected = np.mean([scipy.spatial.distance.jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)])
    assert kl_divergence(golden, device).js == pytest.approx(expected, rel=1e-9)
    assert kl_divergence(device, golden).js == pytest.approx(expected, rel=1e-9)
    assert kl_divergence(golden, golden + 5).js == pytest.approx(0.0, abs=1e-12)
    apart = torch.tensor([[0.0, 2000.0]])
    assert kl_divergence(apart, -apart).js == pytest.approx(math.log(2))


def test_direction_is_golden_against_device() -> None:
    """KL is golden's expectation: a worked example in nats, and the reverse differs."""
    # p = 1/4, 3/4; q = 1/2, 1/2
    golden, device = (
        torch.tensor([[0.0, math.log(3.0)]]),
        torch.tensor([[0.0, 0.0]]),
    )
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert kl_divergence(golden, device).mean == pytest.approx(expected)
    assert kl_divergence(device, golden).mean == pytest.approx(-0.5 * math.log(0.75))


def test_equal_up_to_an_offset_is_zero() -> None:
    """Adding a constant to a row's logits, even a huge one, changes nothing."""
    golden, _ = logits(8, 100)
    assert kl_divergence(golden, golden).max == pytest.approx(0.0, abs=1e-12)
    assert kl_divergence(golden.double(), golden.double() + 1e4).max == pytest.approx(0.0, abs=1e-9)


def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time gives what all rows at once give."""
    golden, device = logits(9, 64)
    tokens = torch.arange(9)
    whole = kl_divergence(golden, device, tokens)
    monkeypatch.setattr(implementation, "BLOCK_ELEMENTS", 64)
    assert torch.equal(kl_divergence(golden, device, tokens).per_token, whole.per_token)


def test_change_of_the_true_tokens_probability() -> None:
    """delta p is taken at the token that follows each row, and the last row has none."""
    golden, device = logits(2, 6, 30)
    tokens = torch.randint(0, 30, (2, 6))
    p, q = golden.double().softmax(-1), device.double().softmax(-1)
    delta = torch.stack([(q - p)[b, s, tokens[b, s + 1]] for b in range(2) for s in range(5)])
    result = kl_divergence(golden, device, tokens)
    assert result.rms_delta_p == pytest.approx(float(delta.square().mean().sqrt()))
    assert result.mean_delta_p == pytest.approx(float(delta.mean()))
    assert math.isnan(kl_divergence(golden, device).rms_delta_p)


def test_same_top_p_counts_equal_argmax() -> None:
    """same_top_p is the share of rows with one likeliest token, ties going to the lowest index."""
    golden = torch.tensor([[2.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    device = torch.tensor([[3.0, 2.0, 0.0], [0.0, 1.0, 1.0], [0.0, 4.0, 3.0], [1.0, 0.0, 0.0]])
    assert kl_divergence(golden, device).same_top_p == 0.75


def test_a_broken_row_breaks_the_mean() -> None:
    """One NaN or Inf logit makes mean, maximum and quantiles nan and names the row."""
    for bad in (math.nan, math.inf):
        golden, device = logits(6, 20)
        device[4, 3] = bad
        result = kl_divergence(golden, device)
        assert math.isnan(result.mean)
        assert math.isnan(result.max)
        assert math.isnan(result.quantiles[50.0])
        assert result.worst_row == 4


def test_truncated_device_logits_are_refused() -> None:
    """A device that stopped early is an error that names both shapes; so are no rows and unfit tokens."""
    golden, device = logits(6, 20)
    with pytest.raises(ShapeMismatch, match=r"actual \[4, 20\], golden \[6, 20\]"):
        kl_divergence(golden, device[:4])
    with pytest.raises(ValueError, match="at least one row"):
        kl_divergence(golden[:0], device[:0])
    with pytest.raises(ValueError, match=r"tokens \[5\] do not fit"):
        kl_divergence(golden, device, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[0, 20\), got 0..20"):
        kl_divergence(golden, device, torch.tensor([0, 1, 2, 3, 4, 20]))


def test_bfloat16_logits_are_read_as_they_are() -> None:
    """bfloat16 device logits against float32 golden logits agree with scipy."""
    golden, _ = logits(5, 300)
    device = golden.bfloat16()
    np.testing.assert_allclose(
        kl_divergence(golden, device).per_token.numpy(), reference(golden, device.float())
    )
