"""The texts of different register and how they are cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from goldens import N_WINDOWS, PROMPTS, REGISTERS, CorpusError, Reference
from goldens.registers import CONTEXT, WINDOWS, register_texts, register_windows, registers_digest

LENGTH = 96


@pytest.fixture(scope="module")
def windows(reference: Callable[[str], Reference]) -> tuple[torch.Tensor, torch.Tensor]:
    return register_windows(reference("float32").tokenizer, LENGTH)


def test_each_token_but_the_first_is_scored_once(
    windows: tuple[torch.Tensor, torch.Tensor], reference: Callable[[str], Reference]
) -> None:
    """What the scored rows of a text's windows predict is the text from its second token on, without gap or repeat."""
    tokens, scored = windows
    assert tokens.shape == scored.shape == (N_WINDOWS, LENGTH)
    decode = reference("float32").tokenizer.decode
    for at, register in enumerate(REGISTERS):
        predicted = [
            tokens[w, row + 1]
            for w in range(at * WINDOWS, (at + 1) * WINDOWS)
            for row in scored[w].nonzero()[:, 0].tolist()
        ]
        count = CONTEXT + WINDOWS * (LENGTH - CONTEXT) - 1
        assert len(predicted) == count
        assert decode(predicted) == decode(tokens[at * WINDOWS, :1].tolist() + predicted)[1:]
        text = reference("float32").tokenizer(register_texts()[register], add_special_tokens=False)
        assert predicted == text["input_ids"][1 : count + 1]


def test_the_overlap_is_context(windows: tuple[torch.Tensor, torch.Tensor]) -> None:
    """A second window begins with the last tokens of the first, and scores none of them."""
    tokens, scored = windows
    assert torch.equal(tokens[0, -CONTEXT:], tokens[1, :CONTEXT])
    assert not scored[1, : CONTEXT - 1].any()
    assert scored[1, CONTEXT - 1]
    assert not scored[:, -1].any()


def test_registers_and_prompts_are_as_many_as_promised() -> None:
    """Eight registers or more, no text twice; thirty-two prompts or more of many lengths."""
    assert len(REGISTERS) >= 8
    assert len(set(register_texts().values())) == len(REGISTERS)
    assert len(set(PROMPTS)) == len(PROMPTS) >= 32
    assert len({len(prompt) for prompt, _ in PROMPTS}) > 20


def test_written_texts_are_the_same_everywhere() -> None:
    """The generators' first lines, recorded: another machine or Python must write these."""
    first = {name: register_texts()[name].splitlines()[0] for name in ("arithmetic", "dialogue")}
    assert first == {
        "arithmetic": "437 + 17 = 454, 437 - 17 = 420, 437 x 17 = 7429.",
        "dialogue": "Chen: Could you bring me 7 drills on Tuesday, please?",
    }
    assert len(registers_digest()) == 64


def test_windows_too_short_or_too_long_are_refused(reference: Callable[[str], Reference]) -> None:
    """A window that is all context, and a text that does not fill its windows, are one line each."""
    tokenizer = reference("float32").tokenizer
    with pytest.raises(CorpusError, match=r"windows of 64 tokens: 64 are context"):
        register_windows(tokenizer, CONTEXT)
    with pytest.raises(CorpusError, match=r"register \w+ has \d+ tokens, \d+ are needed"):
        register_windows(tokenizer, 100_000)
