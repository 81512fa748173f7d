import math

import numpy as np
import pytest
import scipy.stats
import torch

from harness.metrics import (
    benjamini_hochberg,
    detectable_accuracy_change,
    mcnemar_p,
    paired_accuracy_test,
    paired_nll_test,
)
from harness.metrics import paired as implementation


def answers(both: int, lost: int, gained: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    golden = torch.tensor([True] * (both + lost) + [False] * (gained + neither))
    device = torch.tensor([True] * both + [False] * lost + [True] * gained + [False] * neither)
    shuffled = torch.randperm(len(golden), generator=torch.Generator().manual_seed(0))
    return golden[shuffled], device[shuffled]


def nll(
    windows: int, length: int, noise: float, change: float = 0.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    golden = 3 * torch.rand(windows, length, generator=generator, dtype=torch.float64)
    differences = noise * torch.randn(windows, length, generator=generator, dtype=torch.float64)
    return golden, golden + differences + math.log1p(change)


# ---- accuracy


def test_only_flips_count() -> None:
    """A worked table: 25 answers lost, 10 gained of 1,000; those on which both agree do not change the p-value."""
    result = paired_accuracy_test(*answers(700, 25, 10, 265))
    assert (result.lost, result.gained, result.n) == (25, 10, 1000)
    assert result.change == pytest.approx(-0.015)
    assert result.loss == pytest.approx(0.015)
    assert result.p_value == pytest.approx(scipy.stats.binomtest(10, 35, 0.5).pvalue)
    assert paired_accuracy_test(*answers(7, 25, 10, 2)).p_value == result.p_value


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (8, 0), (3, 10), (10, 3), (200, 260), (7, 7)])
def test_p_value_is_scipys_exact_binomial(lost: int, gained: int) -> None:
    """Two-sided and symmetric; 1 without a flip."""
    expected = scipy.stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar_p(lost, gained) == pytest.approx(expected)


def test_eight_flips_of_one_kind_are_the_fewest_that_count_at_one_percent() -> None:
    """2 x 0.5^7 is .0156, 2 x 0.5^8 is .0078."""
    assert mcnemar_p(7, 0) > 0.01 > mcnemar_p(8, 0)


@pytest.mark.parametrize(("n", "flips", "alpha"), [(2046, 20, 0.01), (500, 10, 0.05), (4096, 0, 0.01)])
def test_the_detectable_change_is_detected_that_often(n: int, flips: int, alpha: float) -> None:
    """Drawn with that true change, the test rejects in 80% of 4,000 runs."""
    change = detectable_accuracy_change(n, flips, alpha=alpha, power=0.8)
    noise = flips / n
    draws = np.random.default_rng(0).multinomial(n, [noise / 2 + change, noise / 2, 1 - noise - change], 4000)
    share = np.mean([mcnemar_p(int(lost), int(gained)) <= alpha for lost, gained, _ in draws])
    assert share == pytest.approx(0.8, abs=0.03)


def test_too_few_questions_detect_nothing() -> None:
    """Five answers, all flipped, prove nothing at 1%."""
    assert detectable_accuracy_change(5, 0) == math.inf


# ---- perplexity


def test_the_ratio_is_that_of_the_perplexities() -> None:
    """exp of the mean difference, whatever the windows; two equal sides are 1 with certainty 1."""
    golden, device = nll(3, 100, 0.05, 0.02)
    result = paired_nll_test(golden, device)
    assert result.ratio == pytest.approx(math.exp(device.mean()) / math.exp(golden.mean()))
    assert result.change == pytest.approx(result.ratio - 1)
    assert (result.n, result.clusters) == (300, 3 * 13)
    same = paired_nll_test(golden, golden)
    assert (same.ratio, same.p_value, same.low, same.high) == (1.0, 1.0, 1.0, 1.0)


def test_independent_tokens_give_scipys_paired_t_test() -> None:
    """With a run of one token the p-value and the standard error are those of the t test of the differences."""
    golden, device = nll(2, 150, 0.05, 0.006)
    result = paired_nll_test(golden, device, run=1)
    expected = scipy.stats.ttest_rel(device.reshape(-1).numpy(), golden.reshape(-1).numpy())
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.stderr == pytest.approx(result.ratio * scipy.stats.sem((device - golden).reshape(-1)))
    assert result.design_effect == pytest.approx(1.0)


def test_the_interval_is_students_where_errors_are_normal() -> None:
    """The bootstrap's ends lie where the t interval's do, to a twentieth of its width."""
    golden, device = nll(4, 512, 0.1)
    result = paired_nll_test(golden, device, run=1)
    differences = (device - golden).reshape(-1).numpy()
    low, high = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.99)
    assert math.log(result.low) == pytest.approx(low, abs=0.05 * (high - low))
    assert math.log(result.high) == pytest.approx(high, abs=0.05 * (high - low))


def test_tokens_that_err_together_are_not_counted_as_many() -> None:
    """Errors shared by 16 neighbours make the standard error four times that of independent tokens."""
    golden, _ = nll(4, 1024, 0.0)
    shared = 0.05 * torch.randn(4, 64, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    result = paired_nll_test(golden, golden + shared.expand(4, 64, 16).reshape(4, 1024), run=16)
    assert result.design_effect == pytest.approx(16, rel=0.05)
    assert result.clusters == 256


def test_a_run_crosses_no_window() -> None:
    """Windows of 20 tokens in runs of 16 leave a short run each; their sums are the windows' own."""
    golden = torch.zeros(3, 20)
    result = paired_nll_test(golden, torch.arange(3.0)[:, None].expand(3, 20), run=16)
    assert (result.clusters, result.ratio) == (6, pytest.approx(math.e))


def test_false_alarms_and_power_are_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 runs of 1,024 tokens, heavy tails, neighbours alike: 1% alarms at no change, 80% found at `detectable`."""
    monkeypatch.setattr(implementation, "RESAMPLES", 10)  # the interval is not asked for
    rng = np.random.default_rng(0)
    noise = rng.standard_t(4, (500, 2, 516)) * 0.05
    noise = torch.from_numpy(noise[..., :512] + noise[..., 1:513] + noise[..., 2:514])
    golden = torch.zeros(2, 512, dtype=torch.float64)
    results = [paired_nll_test(golden, one, run=16) for one in noise]
    alarms = np.mean([result.p_value <= 0.01 for result in results])
    assert alarms <= 0.02
    detectable = float(np.median([result.detectable for result in results]))
    share = np.mean(
        [paired_nll_test(golden, one + math.log1p(detectable), run=16).p_value <= 0.01 for one in noise]
    )
    assert share == pytest.approx(0.8, abs=0.06)


def test_a_nan_is_no_pass() -> None:
    """One NaN leaves no figure that a gate could take for good."""
    golden, device = nll(1, 64, 0.1)
    device[0, 3] = math.nan
    result = paired_nll_test(golden, device)
    assert math.isnan(result.ratio)
    assert math.isnan(result.p_value)
    assert math.isnan(result.detectable)


def test_the_same_difference_everywhere_is_certain() -> None:
    """A change without any noise has p = 0 and a standard error of 0."""
    golden, _ = nll(1, 64, 0.1)
    result = paired_nll_test(golden.round(decimals=1), golden.round(decimals=1) + 0.5)
    assert result.p_value < 1e-100
    assert result.ratio == pytest.approx(math.exp(0.5))


def test_what_is_not_paired_is_refused() -> None:
    """Shapes that differ and texts too short are each one line."""
    for golden, device, message in (
        (torch.zeros(2, 30), torch.zeros(2, 29), r"not paired: golden \[2, 30\], device \[2, 29\]"),
        (torch.zeros(0, 30), torch.zeros(0, 30), "not paired"),
        (torch.zeros(1, 8), torch.zeros(1, 8), "8 tokens make 1 run of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            paired_nll_test(golden, device)
    with pytest.raises(ValueError, match="answers are not paired"):
        paired_accuracy_test(torch.zeros(3), torch.zeros(4))


# ---- many tests


def test_benjamini_hochberg_is_scipys() -> None:
    """Adjusted p-values agree with scipy's, in the order given."""
    p_values = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(
        benjamini_hochberg(list(p_values)), scipy.stats.false_discovery_control(p_values)
    )
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([0.02]) == [0.02]


def test_benjamini_hochberg_by_hand() -> None:
    """Of .01, .02, .03 and .5 the first three become .04; a NaN is a test that rejects nothing."""
    assert benjamini_hochberg([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04])
    adjusted = benjamini_hochberg([0.01, math.nan])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
