"""A router near a tie: which of two experts it takes is decided by the last bits, and both are right.

The reference then takes the device's choice, and its own everywhere else: what is compared is everything but that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

NEAR = (
    0.06  # of the standard deviation of a layer's scores: the margin below which a choice may go either way
)
MOST = 0.03  # of all chosen experts, those that may be other ones

Choices = dict[int, torch.Tensor]  # of a layer [users, positions, experts], 0 where an expert was not chosen


@contextmanager
def recorded() -> Iterator[list[torch.Tensor]]:
    """While it lasts, what each call of a router gave: [rows, experts] in the order of calls."""
    from tt_llm.mesh import to_host
    from tt_llm.modules.moe import Router

    given: list[torch.Tensor] = []
    chosen = Router._chosen

    def seen(self: Router, scores: Any) -> Any:
        weights = chosen(self, scores)
        given.append(to_host(weights)[0, 0].float())
        return weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Router, "_chosen", seen)
        yield given


def of_prefill(given: list[torch.Tensor], layers: Sequence[int], length: int) -> Choices:
    """The calls of a prefill, user after user: the choices at its positions, and room up to `length`."""
    cut = (torch.nn.functional.pad(rows, (0, 0, 0, max(0, length - len(rows))))[:length] for rows in given)
    calls = list(cut)
    return {layer: torch.stack(calls[i :: len(layers)]) for i, layer in enumerate(layers) if calls}


@contextmanager
def agreed(model: Any, choices: Choices) -> Iterator[None]:
    """While it lasts, the Hugging Face model's routers of these layers take these choices where they are near a tie."""
    config = model.config
    differing: list[torch.Tensor] = []
    hooks: list[Any] = []

    def agree(chosen: torch.Tensor) -> Any:
        def hook(_: Any, __: Any, output: Any) -> Any:
            logits, _, own = output
            k = config.num_experts_per_tok
            best, device = logits.topk(k + 1).values, chosen.flatten(0, 1)
            near = (best[:, k - 1] - best[:, k] < NEAR * logits.std()) & ((device != 0).sum(-1) == k)
            taken = torch.where(near[:, None], device.topk(k).indices, own)
            differing.append((taken[:, :, None] != own[:, None]).all(-1))
            shares = logits.softmax(-1).gather(-1, taken)
            if getattr(config, "norm_topk_prob", True):
                shares = shares / shares.sum(-1, keepdim=True)
            return logits, shares, taken

        return hook

    for layer, chosen in choices.items():
        mlp = model.model.layers[layer].mlp
        hooks.append(
            getattr(mlp, "gate" if hasattr(mlp, "gate") else "router").register_forward_hook(agree(chosen))
        )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    share = float(torch.stack(differing).float().mean()) if differing else 0.0
    assert share < MOST, f"{share:.1%} of the experts are other ones"
