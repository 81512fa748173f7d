import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from harness.metrics import perplexity, perplexity_change
from harness.metrics import perplexity as perplexity_function


def sample(*lead: int, length: int = 12, vocab: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(*lead, length, vocab, generator=generator),
        torch.randint(0, vocab, (*lead, length), generator=generator),
    )


@pytest.mark.parametrize("lead", [(), (1,), (2, 3)])
def test_equals_torchs_cross_entropy_on_shifted_tokens(lead: tuple[int, ...]) -> None:
    """Logits at s are scored on token s+1, within each sequence, and the last row is not used."""
    logits, tokens = sample(*lead)
    nll = F.cross_entropy(
        logits[..., :-1, :].double().reshape(-1, 40), tokens[..., 1:].reshape(-1), reduction="none"
    ).numpy()
    result = perplexity(logits, tokens)
    np.testing.assert_allclose(result.nll.numpy().reshape(-1), nll, rtol=1e-10)
    assert result.nll.shape == (*lead, 11)
    assert result.mean_nll == pytest.approx(nll.mean())
    assert result.value == pytest.approx(math.exp(nll.mean()))
    assert result.stderr == pytest.approx(result.value * scipy.stats.sem(nll))
    assert result.n == nll.size


def test_uniform_logits_give_the_vocabulary_size() -> None:
    """A model that knows nothing has the vocabulary size as perplexity, with no error."""
    result = perplexity(torch.zeros(20, 49), torch.randint(0, 49, (20,)))
    assert result.value == pytest.approx(49.0)
    assert result.stderr == pytest.approx(0.0, abs=1e-12)


def test_the_shift_is_not_off_by_one() -> None:
    """Logits that put all weight on the following token have perplexity 1; on the same token, a huge one."""
    tokens = torch.arange(10)
    following = 50 * F.one_hot((tokens + 1) % 10, 10).float()
    assert perplexity(following, tokens).value == pytest.approx(1.0)
    assert perplexity(50 * F.one_hot(tokens, 10).float(), tokens).value > 1e20


def test_nan_stays_nan_and_overflow_is_infinite() -> None:
    """One NaN logit makes the perplexity nan; a hopeless one is inf, not an exception."""
    logits, tokens = sample()
    logits[3, 5] = math.nan
    assert math.isnan(perplexity(logits, tokens).value)
    assert perplexity(torch.tensor([[0.0, 1e6], [0.0, 0.0]]), torch.tensor([0, 0])).value == math.inf


def test_bad_input_is_one_clear_line() -> None:
    """Unfit shapes, a single token and an id outside the vocabulary are named."""
    logits, tokens = sample()
    for arguments, message in (
        ((logits[:-1], tokens), r"logits \[11, 40\] and tokens \[12\] do not fit"),
        ((logits[:1], tokens[:1]), "at least two tokens"),
        ((logits, tokens.clone().fill_(40)), r"\[0, 40\), got 40..40"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            perplexity_function(*arguments)
        assert "\n" not in str(caught.value)


def test_change_is_paired() -> None:
    """The change is the ratio less one; its error comes from per-token differences, far below the unpaired one."""
    logits, tokens = sample(length=400)
    device_logits = logits + 0.05 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    golden, device = perplexity(logits, tokens), perplexity(device_logits, tokens)
    result = perplexity_change(golden, device)
    differences = (device.nll - golden.nll).numpy()
    assert result.change == pytest.approx(device.value / golden.value - 1)
    assert result.stderr == pytest.approx(device.value / golden.value * scipy.stats.sem(differences))
    assert result.stderr < 0.1 * golden.stderr / golden.value
    assert result.n == 399


def test_change_over_different_tokens_is_refused() -> None:
    """Perplexities of different lengths cannot be paired."""
    logits, tokens = sample()
    with pytest.raises(ValueError, match=r"golden \[11\], device \[8\]"):
        perplexity_change(perplexity(logits, tokens), perplexity(logits[:9], tokens[:9]))
