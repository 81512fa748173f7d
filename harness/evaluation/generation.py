"""Greedy continuations of a batch of prompts, each until it has had enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.evaluation.causal import CausalModel


def greedy(
    model: CausalModel, prompts: Sequence[Sequence[int]], count: int, enough: Callable[[list[int]], bool]
) -> list[list[int]]:
    """Up to `count` new tokens a prompt, at most `batch_size` prompts.

    A row ends after an end-of-sequence token and after the token with which `enough` is true. The first is returned too, as
    HFLM does: a special token has no text, and one that is none has.
    """
    continuations: list[list[int]] = [[] for _ in prompts]
    running = [True] * len(prompts)
    step = model.begin(prompts, range(len(prompts)), count).argmax(-1).tolist()
    while True:
        for row, token in enumerate(step):
            if running[row]:
                continuations[row].append(token)
                ended = token in model.eos_token_ids or len(continuations[row]) == count
                running[row] = not ended and not enough(continuations[row])
        if not any(running):
            return continuations
        tokens = [row[-1] if more else None for row, more in zip(continuations, running, strict=True)]
        step = model.advance(tokens).argmax(-1).tolist()
