"""Decode as a trace, its inputs over a command queue of their own, gives what decode op by op gives, bit for bit."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import ttnn

from harness.targets import active
from harness.timing import counters

USERS = 4
PROMPT, STEPS = 96, 4
LENS = [96, 33, 64, 5]  # of the users' prompts: not alike, one at a block's end


@pytest.fixture(autouse=True)
def _traces(tt_session):
    """Skips where no step can run as a trace."""
    if not active().traces:
        pytest.skip(f"{active().name} runs no trace ({active().what})")
    if tt_session.options.strict:
        pytest.skip("--tt-strict compares devices between the ops of a step, which a trace has no room for")


@pytest.fixture
def tokens(tt_session) -> torch.Tensor:
    """[users, prompt and steps] of the corpus; where nothing is computed, zeros."""
    if not active().computes:
        return torch.zeros(USERS, PROMPT + STEPS, dtype=torch.int32)
    return tt_session.tokens(PROMPT + STEPS, USERS).int()


@pytest.fixture
def changed(recorder):
    """changed(traced, untraced): files how many values differ; none may. A row without a user is zeros in both."""

    def judge(traced: list[torch.Tensor], untraced: list[torch.Tensor]) -> None:
        pairs = list(zip(traced, untraced, strict=True))
        differ = sum(int((ours != theirs).sum()) for ours, theirs in pairs)
        recorder.judge({"changed_values": float(differ)}, sum(t.numel() for t, _ in pairs), "model")

    return judge


def test_a_traced_step_is_the_step(generator, tokens, changed):
    """Users at positions of their own, one leaving, one going back: every step has the logits it has op by op."""
    generator.prefill_forward(tokens[:, :PROMPT], prompt_lens=LENS)
    at = torch.tensor(LENS, dtype=torch.int32)
    places = [at, at + 1, torch.tensor([98, 35, -1, 7]), torch.tensor([99, 20, -1, 8]), at + 4]
    traced, untraced = [], []
    for number, positions in enumerate(places):
        step = tokens[:, PROMPT + number % STEPS, None]
        for outputs, enable_trace in ((traced, True), (untraced, False)):
            outputs.append(generator.decode_forward(step, positions.int(), enable_trace=enable_trace))
    changed(traced, untraced)


def test_what_happens_between_steps_reaches_the_trace(generator, tokens, changed):
    """A prefill while a trace lives, and a page table whose blocks are others: the next step works on what is there now."""
    table = generator.page_table[:USERS]
    other = table.flip(0)
    traced, untraced = [], []
    for enable_trace, outputs in ((True, traced), (False, untraced)):
        generator.prefill_forward(tokens[:, :PROMPT], table)
        at = torch.full((USERS,), PROMPT, dtype=torch.int32)
        for number in range(3):  # by then it is replayed
            step = tokens[:, PROMPT + number, None]
            outputs.append(generator.decode_forward(step, at + number, table, enable_trace=enable_trace))
        generator.prefill_forward(tokens[:, 4:68], other)
        for number in range(2):
            step = tokens[:, 68 + number, None]
            where = torch.full((USERS,), 64 + number, dtype=torch.int32)
            outputs.append(generator.decode_forward(step, where, other, enable_trace=enable_trace))
    changed(traced, untraced)


def test_greedy_text_is_the_same(generator, tokens, changed):
    """Tokens chosen and fed back on the devices are those the host chooses; twice, compiling and replayed."""
    prompts = [row[:length].tolist() for row, length in zip(tokens, LENS, strict=True)]
    texts = [
        torch.tensor(generator.generate(prompts, 8, stop_at_eos=False, enable_trace=enable_trace))
        for enable_trace in (False, True, True)
    ]
    changed(texts[1:], texts[:1] * 2)


def test_a_greedy_step_moves_only_its_tokens(generator, tokens):
    """Of a replayed greedy step the host gets 32 token ids, and sends nothing: exactly."""
    if not active().native:
        pytest.skip(f"{active().name} captures no graph to count transfers in; --tt-target dryrun does")
    prompts = [row[:5].tolist() for row in tokens]

    def moved(count: int) -> list[tuple[str, int]]:
        run = partial(generator.generate, prompts, count, stop_at_eos=False)
        graph = counters.captured(ttnn, run, ttnn.graph.RunMode.NORMAL)
        return [
            (op.name, sum(tensor.size for tensor in op.inputs))
            for op in counters.ops(graph)
            if op.name in counters.TRANSFERS
        ]

    generator.generate(prompts, 4, stop_at_eos=False)  # compiled, then captured
    fewer, more = moved(4), moved(6)
    assert more[: len(fewer)] == fewer
    assert more[len(fewer) :] == [("Tensor::cpu", 32 * 4)] * 2
