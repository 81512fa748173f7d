"""Prompts of random words, and how much is to follow each."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.serving.tiny import WORDS


def drawn(seed: int, lengths: Sequence[int], most_new: int) -> tuple[list[list[int]], list[int]]:
    """A prompt of each length, and from 2 to `most_new` tokens to follow it."""
    source = random.Random(seed)
    prompts = [[source.randrange(WORDS) for _ in range(length)] for length in lengths]
    return prompts, [source.randint(2, most_new) for _ in lengths]
