"""Which tokens the device would pick, against the golden's picks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.metrics.tensors import BLOCK_ELEMENTS, ShapeMismatch

LAST = 2**62  # a rank behind every token, however small the vocabulary


@dataclass(frozen=True)
class TokenAgreement:
    """top1: share of rows with the same argmax. top5: share whose device argmax is among the golden's five likeliest."""

    top1: float
    top5: float
    n: int
    misses: tuple[int, ...]  # flat row indices where the argmax differs
    misses_top5: tuple[int, ...]


def token_agreement(golden_logits: Tensor, device_logits: Tensor) -> TokenAgreement:
    """Teacher-forced agreement over logits ``[..., V]``, row by row.

    Top-5 is Tenstorrent's definition (tt_transformers' token accuracy test): the device's argmax is a member of the
    golden's top 5. Ties go to the lowest index on both sides. A row whose largest logit is NaN or Inf is a miss.
    Raises ShapeMismatch when the shapes differ (a device that stopped early must not pass), ValueError without rows.
    """
    if golden_logits.shape != device_logits.shape:
        raise ShapeMismatch(tuple(device_logits.shape), tuple(golden_logits.shape))
    if golden_logits.numel() == 0:
        raise ValueError(f"token agreement needs at least one row of logits, got {list(golden_logits.shape)}")
    vocab = golden_logits.shape[-1]
    golden, device = golden_logits.detach().reshape(-1, vocab), device_logits.detach().reshape(-1, vocab)
    height = max(1, BLOCK_ELEMENTS // vocab)
    ranks = torch.cat(
        [
            _golden_rank(golden[i : i + height], device[i : i + height])
            for i in range(0, golden.shape[0], height)
        ]
    )
    n = ranks.numel()
    misses, misses_top5 = (tuple((ranks >= k).nonzero()[:, 0].tolist()) for k in (1, 5))
    return TokenAgreement(1 - len(misses) / n, 1 - len(misses_top5) / n, n, misses, misses_top5)


def agreement_length(golden_ids: Sequence[int] | Tensor, device_ids: Sequence[int] | Tensor) -> int:
    """How many tokens two greedy continuations share from their start, before they first differ or one ends."""
    count = 0
    for golden, device in zip(_ids(golden_ids), _ids(device_ids), strict=False):
        if golden != device:
            break
        count += 1
    return count


def edit_distance(golden_ids: Sequence[int] | Tensor, device_ids: Sequence[int] | Tensor) -> int:
    """The fewest tokens to insert, delete or replace that turn one continuation into the other (Levenshtein 1966).

    Beside `agreement_length` it tells a text that leaves and comes back from one that never does.
    """
    golden, device = _ids(golden_ids), _ids(device_ids)
    row = list(range(len(device) + 1))
    for i, right in enumerate(golden, start=1):
        diagonal, row[0] = row[0], i
        for j, token in enumerate(device, start=1):
            replaced = diagonal + (right != token)
            diagonal = row[j]
            row[j] = min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def flip_cost(
    golden_logits: Tensor, golden_ids: Sequence[int] | Tensor, device_ids: Sequence[int] | Tensor
) -> float:
    """How much rather the golden wanted its own token where two greedy continuations first differ, in nats.

    golden_logits [N, vocab] are those the golden's N tokens were chosen from. 0 if the continuations are equal;
    inf if the device's stops early. A small cost is a near tie that any rounding may flip; a large one is an error.
    """
    at = agreement_length(golden_ids, device_ids)
    golden, device = _ids(golden_ids), _ids(device_ids)
    if at == len(golden):
        return 0.0
    if at == len(device):
        return float("inf")
    return float(golden_logits[at, golden[at]] - golden_logits[at, device[at]])


def _golden_rank(golden: Tensor, device: Tensor) -> Tensor:
    """[R] int64: place of the device's argmax in the golden's order, 0 the likeliest; LAST if not finite."""
    best = golden.argmax(-1)  # torch: the first of several maxima; NaN counts as the largest
    pick = device.argmax(-1)
    rank = torch.zeros_like(pick)
    sure = golden.gather(-1, best[:, None]).isfinite() & device.gather(-1, pick[:, None]).isfinite()
    for row in (best != pick).nonzero()[:, 0].tolist():
        value = golden[row, pick[row]]
        ahead = (golden[row] > value).sum() + (golden[row, : pick[row]] == value).sum()
        rank[row] = ahead
    return rank.masked_fill_(~sure[:, 0], LAST)


def _ids(ids: Sequence[int] | Tensor) -> list[int]:
    if isinstance(ids, Tensor):
        if ids.dim() != 1:
            raise ValueError(
                f"agreement_length compares one sequence with one, got ids of shape {list(ids.shape)}"
            )
        return [int(i) for i in ids.tolist()]
    return list(ids)
