"""KL divergence from recorded logits of which only the likeliest and the log-sum-exp were kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch

SMALLEST = 1e-12  # probability; keeps the rest's logarithm finite


def partial_kl(recorded: Mapping[str, torch.Tensor], ids: torch.Tensor, logits: torch.Tensor) -> float:
    """Mean KL(recorded || logits) in nats, over the tokens `ids` [S, k] and all others taken as one.

    `recorded` holds "logits_at_golden_top64" [S, k] and "lse" [S]; `logits` are whole, [S, vocab]. Lumping the others
    can only lower a divergence (the log-sum inequality), by little where the k tokens hold nearly all probability.
    """
    theirs = _shares(recorded["logits_at_golden_top64"], recorded["lse"])
    ours = _shares(logits.gather(1, ids.long()), logits.double().logsumexp(1))
    return float((theirs * (theirs / ours).log()).sum(1).mean())


def _shares(logits: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """[S, k + 1]: probabilities of the k tokens and of all others."""
    kept = (logits.double() - lse.double()[:, None]).exp()
    rest = (1 - kept.sum(1, keepdim=True)).clamp(min=SMALLEST)
    return torch.cat([kept, rest], 1)
