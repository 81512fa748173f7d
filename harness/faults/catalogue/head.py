"""Mistakes after the last layer: the LM head, which row is read, and how a batch comes back."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import around, fault, scaled


@fault("lm_head")
def logits_of_the_token_before(patch: pytest.MonkeyPatch) -> None:
    """Every token has the logit of the one before it in the vocabulary."""
    from tt_llm.modules.lm_head import LMHead

    around(patch, LMHead, "to_host", lambda to_host, self, logits: to_host(self, logits).roll(1, -1))


@fault("lm_head")
def soft_capped_logits(patch: pytest.MonkeyPatch) -> None:
    """Logits are bent towards a cap, as in Gemma 2, here 5."""
    import ttnn

    from tt_llm.modules.lm_head import LMHead

    def capped(head: Any, self: LMHead, x: Any) -> Any:
        return ttnn.multiply(ttnn.tanh(ttnn.multiply(head(self, x), 1 / 5)), 5.0)

    around(patch, LMHead, "__call__", capped)


@fault("lm_head")
def last_slice_of_the_vocabulary_lost(patch: pytest.MonkeyPatch) -> None:
    """The last slice of the LM head's table is zeros."""
    from tt_llm.modules.lm_head import LMHead

    def lost(init: Any, self: LMHead, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._slices[-1] = scaled(self._slices[-1], 0.0)

    around(patch, LMHead, "__init__", lost)


@fault("lm_head")
def temperature_left_in(patch: pytest.MonkeyPatch) -> None:
    """Logits come divided by a temperature of 1.1: no argmax changes."""
    from tt_llm.modules.lm_head import LMHead

    around(patch, LMHead, "to_host", lambda to_host, self, logits: to_host(self, logits) / 1.1)


@fault("model")
def last_row_but_one(patch: pytest.MonkeyPatch) -> None:
    """A prompt's last logits are those of the row before."""
    from tt_llm.model import Model

    def earlier(read: Any, self: Model, hidden: Any, positions: range, logits: Any) -> None:
        if len(positions) == 1 and positions.start:
            positions = range(positions.start - 1, positions.stop - 1)
        read(self, hidden, positions, logits)

    around(patch, Model, "prefill_logits", earlier)


@fault("model")
def prompts_come_back_in_reverse(patch: pytest.MonkeyPatch) -> None:
    """The logits of a batch of prompts are handed back in the wrong order."""
    from tt_llm.generator import Generator

    around(
        patch, Generator, "prefill_forward", lambda prefill, *args, **kwargs: prefill(*args, **kwargs).flip(0)
    )


@fault("model")
def decoded_rows_rotated(patch: pytest.MonkeyPatch) -> None:
    """A decode step hands each user the logits of the one before."""
    from tt_llm.generator import Generator

    around(
        patch, Generator, "decode_forward", lambda decode, *args, **kwargs: decode(*args, **kwargs).roll(1, 0)
    )


@fault("model")
def prompt_lengths_ignored(patch: pytest.MonkeyPatch) -> None:
    """Every prompt is taken to be as long as its batch is wide."""
    from tt_llm.generator import Generator

    def all_as_wide(prefill: Any, *args: Any, prompt_lens: Any = None, **kwargs: Any) -> Any:
        return prefill(*args, **kwargs)

    around(patch, Generator, "prefill_forward", all_as_wide)


@fault("model")
def greedy_tokens_not_fed_back(patch: pytest.MonkeyPatch) -> None:
    """Steps that choose their tokens on the devices all read the first one again."""
    from tt_llm.decoding import Decoding

    patch.setattr(Decoding, "_choose_tokens", lambda self: self._model.lm_head.greedy(self._compute_logits()))
