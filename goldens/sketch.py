"""Logits kept small: the likeliest tokens exactly, the rest as a sketch from which KL divergence has tight bounds.

Of each row of logits [V] over which a golden is asked for divergence, agreement and perplexity, it suffices to keep:

    lse            log-sum-exp of the logits
    top_ids        the `TOP` likeliest tokens, likeliest first, and their log-probabilities
    top_logprobs
    true_logprob   log-probability of the token that follows in the text; 0 where none does
    codes          of every token how far its log-probability lies below the last of `top_logprobs`, in whole `STEP`s, at
                   most `LAST`; `KEPT` for the likeliest tokens themselves
    mass           of the tokens with each code, the sum of p,
    entropy        and the sum of p log p

So a token's p is known to 6%, and the sums over each code exactly. That bounds what any other distribution q makes of the
sum of p log q from both sides; `harness.metrics.sketched` does it. It takes a quarter of the float32 logits.
"""

from __future__ import annotations

import torch

from goldens.errors import GoldenError
from goldens.store import Tensors

TOP = 32
STEP = 1 / 16  # nats
LAST, KEPT = 254, 255
ROWS = 64  # at a time


def sketch(logits: torch.Tensor, following: torch.Tensor) -> Tensors:
    """The sketch of logits [..., V], each tensor with the leading dimensions first.

    following [...]: the token after each row, -1 where there is none.
    Raises GoldenError for a vocabulary that has no more than the tokens kept.
    """
    vocab = logits.shape[-1]
    if vocab <= TOP:
        raise GoldenError(f"a vocabulary of {vocab} is not sketched: {TOP} tokens a row are kept as they are")
    lead = logits.shape[:-1]
    rows, true = logits.reshape(-1, vocab), following.reshape(-1)
    blocks = [_rows(rows[i : i + ROWS], true[i : i + ROWS]) for i in range(0, rows.shape[0], ROWS)]
    whole = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    return {name: tensor.reshape(*lead, *tensor.shape[1:]) for name, tensor in whole.items()}


def dummy_sketch(lead: tuple[int, ...], vocab: int) -> Tensors:
    """A sketch of that shape with nothing in it."""
    one = sketch(torch.zeros(1, vocab), torch.zeros(1, dtype=torch.int64))
    return {name: torch.zeros_like(t).expand(*lead, *t.shape[1:]) for name, t in one.items()}


def _rows(logits: torch.Tensor, following: torch.Tensor) -> Tensors:
    values = logits.double()
    lse = values.logsumexp(-1)
    logprobs = values - lse[:, None]
    top_logprobs, top_ids = logprobs.topk(TOP)
    codes = ((top_logprobs[:, -1:] - logprobs) / STEP).long().clamp_(0, LAST)
    codes.scatter_(1, top_ids, KEPT)
    p = logprobs.exp()
    mass, entropy = (
        torch.zeros(len(logits), KEPT + 1, dtype=torch.float64).scatter_add_(1, codes, values)[:, :KEPT]
        for values in (p, p * logprobs)
    )
    true = logprobs.gather(1, following.clamp(min=0)[:, None])[:, 0]
    return {
        "lse": lse,
        "top_ids": top_ids.int(),
        "top_logprobs": top_logprobs,
        "true_logprob": torch.where(following >= 0, true, 0.0),
        "codes": codes.to(torch.uint8),
        "mass": mass.contiguous(),
        "entropy": entropy.contiguous(),
    }
