"""Greedy generation against Hugging Face's, and where it stops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

CLEAR = 0.1  # of a row's standard deviation: the lead of the best token that rounding does not take away
NEW = 8


def greedy(model: Any, prompt: list[int]) -> list[int] | None:
    """Hugging Face's NEW greedy tokens; None if the lead of one is not clear, or they say too little to tell."""
    tokens = list(prompt)
    for _ in range(NEW):
        logits = model.logits(torch.tensor([tokens]))[0, -1]
        best, second = logits.topk(2).values
        if best - second < CLEAR * logits.std():
            return None
        tokens.append(int(logits.argmax()))
    new = tokens[len(prompt) :]
    return new if len(set(new)) > NEW // 2 else None


@pytest.fixture(scope="module")
def cases(tiny: Any) -> list[tuple[list[int], list[int]]]:
    """Three prompts of different lengths with their clear greedy continuations."""
    model, found = tiny("mha"), []
    for seed in range(200):
        prompt = model.prompt((3, 30, 61)[len(found)], seed=seed)[0].tolist()
        continuation = greedy(model, prompt)
        if continuation is not None:
            found.append((prompt, continuation))
        if len(found) == 3:
            return found
    raise AssertionError("no prompts with clear continuations")


def test_a_batch_continues_like_hugging_face(tiny: Any, load: Any, cases: Any) -> None:
    """Prompts of different lengths, over a block's end, get the tokens that full passes get one by one."""
    prompts, expected = zip(*cases, strict=True)
    assert load(tiny("mha")).generate(list(prompts), NEW, stop_at_eos=False) == list(expected)


def test_generation_again_gives_the_same(tiny: Any, load: Any, cases: Any) -> None:
    """What an earlier batch left in the cache does not show."""
    generator = load(tiny("mha"))
    prompt, expected = cases[0]
    generator.generate([case[0] for case in reversed(cases)], NEW)
    assert generator.generate([prompt], NEW, stop_at_eos=False) == [expected]


def test_a_user_stops_at_the_stop_token_alone(make_tiny: Any, load: Any, cases: Any) -> None:
    """The user whose next token is a stop token ends before it; the others go on; stop_at_eos=False ignores it."""
    prompts, expected = (list(part) for part in zip(*cases, strict=True))
    stop = next(token for token in expected[0] if token not in expected[1] + expected[2])
    generator = load(make_tiny(eos_token_id=[999, stop]))
    assert generator.model.config.eos_token_ids == (999, stop)
    short = expected[0][: expected[0].index(stop)]
    assert generator.generate(prompts, NEW) == [short, expected[1], expected[2]]
    assert generator.generate(prompts, NEW, stop_at_eos=False) == expected


def test_generation_ends_when_all_have_stopped(
    make_tiny: Any, load: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No decode step is run for users that have all stopped."""
    prompt, expected = cases[0]
    generator = load(make_tiny(eos_token_id=expected[0]))
    monkeypatch.setattr(generator, "decode_forward", lambda *a, **k: pytest.fail("a step too many"))
    assert generator.generate([prompt], NEW) == [[]]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_no_more_tokens_than_asked_for(tiny: Any, load: Any, cases: Any, count: int) -> None:
    """max_new_tokens bounds each continuation."""
    prompt, expected = cases[0]
    assert load(tiny("mha")).generate([prompt], count, stop_at_eos=False) == [expected[:count]]
