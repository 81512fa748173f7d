"""Choosing the next token: what may be drawn, how often, and that a seed fixes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tt_llm import InputError
from tt_llm.sampling import Sampling

LOGITS = torch.tensor([[0.5, 0.2, 0.2, 0.06, 0.04]]).log()


def drawn(sampling: Sampling, count: int = 4000) -> torch.Tensor:
    """How often each token is drawn, [5]."""
    generator = torch.Generator().manual_seed(5)
    tokens = sampling.choose(LOGITS.expand(count, -1), generator)
    return torch.bincount(tokens, minlength=5) / count


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 3.0]])
    assert Sampling(0).choose(logits, torch.Generator()).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.5, 0.2, 0.2, 0.06, 0.04]),
        (Sampling(0.5), [0.7458, 0.1193, 0.1193, 0.0107, 0.0048]),  # p squared, made to sum to 1
        (Sampling(1.0, top_k=1), [1, 0, 0, 0, 0]),
        (Sampling(1.0, top_k=99), [0.5, 0.2, 0.2, 0.06, 0.04]),
        (Sampling(1.0, top_p=0.6), [0.714286, 0.285714, 0, 0, 0]),  # the fewest that reach it
        (Sampling(1.0, top_p=1e-6), [1, 0, 0, 0, 0]),
        (Sampling(1.0, top_k=4, top_p=0.93), [0.5556, 0.2222, 0.2222, 0, 0]),  # top_p of what top_k left
    ],
    ids=str,
)
def test_tokens_are_drawn_in_their_shares(sampling: Sampling, expected: list[float]) -> None:
    """4,000 draws have a standard error of at most .008."""
    exactly = sampling.probabilities(LOGITS)[0]
    assert exactly.tolist() == pytest.approx(expected, abs=1e-4)
    assert (drawn(sampling) - exactly).abs().max() < 0.035
    assert torch.equal(drawn(sampling), drawn(sampling))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"top_k": -2}, "top_k -2"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.5}, "top_p 1.5"),
    ],
)
def test_what_says_nothing_is_refused(one_line: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as caught:
        Sampling(**options)
    assert one_line(caught.value).startswith(named)


def test_generated_text_follows_its_seed_and_not_the_trace(tiny: Any, load: Any) -> None:
    """The same seed gives the same text, traced or not; a hot enough draw is not the greedy text."""
    generator, prompts = load(tiny("mha")), tiny("mha").prompt(9, users=2).tolist()
    hot = {"stop_at_eos": False, "sampling": Sampling(2.0, top_k=50)}
    texts = [generator.generate(prompts, 6, seed=3, enable_trace=on, **hot) for on in (True, False)]
    assert texts[0] == texts[1]
    assert texts[0] != generator.generate(prompts, 6, stop_at_eos=False)
    assert texts[0] != generator.generate(prompts, 6, seed=4, **hot)
