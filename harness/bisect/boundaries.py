"""Is the model's program the reference's? At the output of every module, the model's own ops in fp32 against PyTorch's model.

An op's golden is given the arguments that the model gives the op, so it cannot tell a wrong argument: a scale that is not
the model's, a position that is one off. The chain of these goldens can: it is the model's program without its rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from harness.bisect.errors import error
from harness.bisect.places import LAYER_MODULES
from harness.bisect.shadows import Shadows

# Relative L2 of the worst row: fp32 sums in another order, through all layers, stay well below.
SAME_PROGRAM = 1e-3
Rows = Callable[[str, str, int], torch.Tensor]  # (reference point, phase, user of a prefill) -> [rows, width]


@dataclass(frozen=True)
class Boundary:
    """A module's output; `error` is the relative L2 of its worst row, in fp32 on both sides."""

    module: str
    layer: int | None
    phase: str
    error: float

    @property
    def same(self) -> bool:
        """Whether the model's program is the reference's up to here."""
        return self.error <= SAME_PROGRAM

    def __str__(self) -> str:
        layer = "" if self.layer is None else f" of layer {self.layer}"
        return f"{self.module}{layer} in {self.phase}"


@contextmanager
def watched(model: Any, shadows: Shadows, reference: Rows, boundaries: list[Boundary]) -> Iterator[None]:
    """While it lasts, `found` grows by the output of each module of a `tt_llm.model.Model`, in the order they are made."""
    user, phase = -1, "prefill"
    patched: list[tuple[Any, str]] = []

    def put(owner: Any, method: str, value: Callable[..., Any]) -> None:
        setattr(owner, method, value)
        patched.append((owner, method))

    def see(module: str, layer: int | None, point: str, device_rows: list[torch.Tensor]) -> None:
        should = reference(point, phase, user)
        outputs = [rows[: len(should), : should.shape[-1]] for rows in device_rows]
        off = max(error([rows], [should]).worst_row for rows in outputs)
        boundaries.append(Boundary(module, layer, phase, off))

    def watch(owner: Any, module: str, layer: int | None) -> None:
        inside = "" if module == "decoder" else f".{module}"
        point = f"{module}.output" if layer is None else f"layers.{layer}{inside}.output"
        for method in ("prefill", "decode"):
            original = getattr(owner, method)

            @functools.wraps(original)
            def call(*args: Any, original: Any = original, method: str = method, **kwargs: Any) -> Any:
                nonlocal user, phase
                if module == "embedding":  # a pass begins: of the next user, or a decode step
                    phase, user = method, user + 1
                tensor = original(*args, **kwargs)
                values = shadows.get(tensor)
                if values is not None:
                    see(module, layer, point, [value[0, 0] for value in values])
                return tensor

            put(owner, method, call)

    to_host = model.lm_head.to_host

    def logits_to_host(logits: Any) -> Any:
        values = shadows.get(logits)
        if values is not None:
            see("lm_head", None, "logits", [torch.cat(values, -1)[0, 0]])
        return to_host(logits)

    watch(model.embedding, "embedding", None)
    for index, layer in enumerate(model.layers):
        for name in LAYER_MODULES:
            watch(getattr(layer, name), name, index)
        watch(layer, "decoder", index)
    watch(model.final_norm, "final_norm", None)
    put(model.lm_head, "to_host", logits_to_host)
    try:
        yield
    finally:
        for owner, method in patched:
            delattr(owner, method)  # what the class has shows again
