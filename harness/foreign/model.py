"""A model that is not this project's, over the text of a golden: any callable, or an object that prefills and decodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch

from goldens import GoldenSpec
from harness.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Logits = Callable[
    [torch.Tensor, torch.Tensor], torch.Tensor
]  # token ids and positions, [B, S] int64 each -> [B, S, V]


class Stepwise(Protocol):
    """What vLLM's plugins for TT-NN call, too. Both give [B, 1, V], the logits after the last token that they were given."""

    def prefill_forward(self, tokens: torch.Tensor, prompt_lens: list[int]) -> torch.Tensor:
        """tokens [B, S] int32, all of them a user's."""
        ...

    def decode_forward(self, tokens: torch.Tensor, start_pos: torch.Tensor) -> torch.Tensor:
        """tokens [B, 1] int32 at positions start_pos [B] int32."""
        ...


Model = Logits | Stepwise


def logits_of(model: Model, spec: GoldenSpec, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The logits that a golden "model" (phase prefill) or "teacher_forced" has, [B, rows, V] float32, of another model.

    A callable is given the whole text so far at every step, and keeps nothing between calls. An object prefills, and decodes the
    true tokens one by one. Raises UserError for another golden, and for logits of another form.
    """
    tokens = inputs["tokens"]
    if spec.module == "teacher_forced":
        return _steps(model, tokens, spec.seq_len, spec.steps)
    if spec.module != "model" or spec.phase != "prefill":
        raise UserError(
            f"golden {spec.name}: logits of a foreign model are held against a golden of 'model' in phase prefill or of "
            "'teacher_forced'"
        )
    last = spec.rows == "last"
    if not _is_stepwise(model):
        logits = _called(model, tokens)
        return logits[:, -1:] if last else logits
    if not last:
        raise UserError(
            f"golden {spec.name}: prefill_forward gives the last token's logits alone; mark the test rows='last'"
        )
    return _prefilled(model, tokens)


def _steps(model: Model, tokens: torch.Tensor, prompt: int, steps: int) -> torch.Tensor:
    ends = range(prompt, prompt + steps)
    if not _is_stepwise(model):
        return torch.cat([_called(model, tokens[:, :end])[:, -1:] for end in ends], dim=1)
    rows = [_prefilled(model, tokens[:, :prompt])]
    for at in ends[:-1]:
        positions = torch.full((len(tokens),), at, dtype=torch.int32)
        rows.append(_checked(model.decode_forward(tokens[:, at : at + 1].int(), positions), len(tokens), 1))
    return torch.cat(rows, dim=1)


def _is_stepwise(model: Model) -> TypeIs[Stepwise]:
    return hasattr(model, "prefill_forward")


def _prefilled(model: Stepwise, tokens: torch.Tensor) -> torch.Tensor:
    users, length = tokens.shape
    return _checked(model.prefill_forward(tokens.int(), prompt_lens=[length] * users), users, 1)


def _called(model: Logits, tokens: torch.Tensor) -> torch.Tensor:
    users, length = tokens.shape
    positions = torch.arange(length).expand(users, length).contiguous()
    return _checked(model(tokens, positions), users, length)


def _checked(logits: Any, users: int, rows: int) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor):
        raise UserError(f"logits: {type(logits).__name__} from the model; a torch.Tensor is right")
    if logits.dim() != 3 or tuple(logits.shape[:2]) != (users, rows):
        raise UserError(
            f"logits: shape {list(logits.shape)} from the model; [{users}, {rows}, vocabulary] is right"
        )
    return logits.float()
