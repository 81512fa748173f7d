"""Log-likelihoods of continuations, and whether greedy decoding would have written them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.evaluation.causal import CausalModel
from harness.evaluation.sharing import Group, Request, plan

Answer = tuple[float, bool]  # log-likelihood in nats; every token is the likeliest
Answered = Callable[[Request, Answer], None]


def score(model: CausalModel, requests: Sequence[Request], answered: Answered, share: bool = True) -> None:
    """Calls `answered` with each request and its answer, in the order in which they come about."""
    work = plan(requests, model.batch_size, model.max_length, share)
    for batch in work.shared:
        _score_shared(model, batch, answered)
    last = [max(len(request.continuation) for request in members) for members in work.alone.values()]
    rows = model.logits(list(work.alone), last)
    for members, logits in zip(work.alone.values(), rows, strict=True):
        ahead = logits.log_softmax(-1)
        for request in members:
            answered(request, _answer(ahead[-len(request.continuation) :], request.continuation))


def _answer(ahead: torch.Tensor, tokens: Sequence[int]) -> Answer:
    """Of log-probabilities [tokens, V], each row what was expected at that token's place."""
    targets = torch.tensor(tokens)[:, None]
    likely = ahead.argmax(-1, keepdim=True)
    return float(ahead.gather(-1, targets).sum()), bool((likely == targets).all())


def _score_shared(model: CausalModel, batch: Sequence[Group], answered: Answered) -> None:
    """Each context is read once; then every step feeds each branch its next token and scores the one after it."""
    rows = [(place, branch) for place, group in enumerate(batch) for branch in group.branches if branch]
    prompts = [place for place, _ in rows]
    steps = max(group.steps for group in batch)
    after = model.begin([group.context for group in batch], prompts, steps).log_softmax(-1)
    for place, group in enumerate(batch):
        for request in group.branches.get((), []):
            answered(request, _answer(after[place : place + 1], request.continuation))
    ahead = after[prompts]
    read: list[Answer] = [(0.0, True)] * len(rows)
    for step in range(steps):
        tokens = [branch[step] if step < len(branch) else None for _, branch in rows]
        read = [_and_then(*parts) for parts in zip(read, ahead, tokens, strict=True)]
        ahead = model.advance(tokens).log_softmax(-1)
        for row, (place, branch) in enumerate(rows):
            if len(branch) == step + 1:
                for request in batch[place].branches[branch]:
                    answered(request, _and_then(read[row], ahead[row], request.continuation[-1]))


def _and_then(answer: Answer, ahead: torch.Tensor, token: int | None) -> Answer:
    """The answer with one more token, whose log-probabilities are `ahead` [V]; without one as it is."""
    if token is None:
        return answer
    return answer[0] + float(ahead[token]), answer[1] and int(ahead.argmax()) == token
