"""What is bisected: the whole model over two prompts, or one module on a golden's inputs. Each can be run again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

import tt_llm
from goldens import Golden, GoldenSpec, Reference
from harness.bisect.boundaries import Boundary, watched
from harness.bisect.places import LAYER_MODULES
from harness.bisect.shadows import Shadows
from harness.metrics import compare_tensors, kl_divergence
from harness.run.module_runner import ModuleRunner

USERS = 2


class Subject(Protocol):
    """Something that runs on the device, and a figure that says how far off it is."""

    metric: str  # the figure's name: smaller is better

    def run(self) -> torch.Tensor:
        """Runs it on the device and returns what it gives."""

    def figure(self, output: torch.Tensor) -> float:
        """How far the output is from the reference's."""

    def boundaries(self, shadows: Shadows) -> AbstractContextManager[list[Boundary]]:
        """A context whose list grows by the modules' outputs, where there are modules inside."""


class WholeModel:
    """Two users' prompts of different length are prefilled, then both decode one step."""

    metric = "mean KL, nats"

    def __init__(self, generator: tt_llm.Generator, reference: Reference, tokens: torch.Tensor) -> None:
        """tokens [2, S + 1]: user 0 has a prompt of S, user 1 one of about half as many."""
        self._generator = generator
        self._tokens = tokens
        self._lens = [tokens.shape[1] - 1, tokens.shape[1] // 2]
        points = {"logits", "embedding.output", "final_norm.output"}
        for layer in range(len(generator.model.layers)):
            points |= {f"layers.{layer}.output", *(f"layers.{layer}.{name}.output" for name in LAYER_MODULES)}
        self._taps = reference.run(tokens.long(), points)

    def run(self) -> torch.Tensor:
        """The logits of every prompt position, then of each user's decode step: [positions, vocab]."""
        tokens = self._tokens.int()
        prefilled = self._generator.prefill_forward(tokens[:, :-1], prompt_lens=self._lens, all_logits=True)
        rows = [prefilled[user, :length] for user, length in enumerate(self._lens)]
        positions = torch.tensor(self._lens, dtype=torch.int32)
        step = tokens.gather(1, positions.long()[:, None])
        return torch.cat([*rows, self._generator.decode_forward(step, positions, enable_trace=False)[:, 0]])

    def figure(self, output: torch.Tensor) -> float:
        """KL(reference || device), the mean over all positions."""
        rows = [self._reference("logits", "prefill", user) for user in range(USERS)]
        return kl_divergence(torch.cat([*rows, self._reference("logits", "decode", 0)]), output).mean

    @contextmanager
    def boundaries(self, shadows: Shadows) -> Iterator[list[Boundary]]:
        """Every module's output against the reference's."""
        rows: list[Boundary] = []
        with watched(self._generator.model, shadows, self._reference, rows):
            yield rows

    def _reference(self, point: str, phase: str, user: int) -> torch.Tensor:
        taps = self._taps[point]
        if phase == "prefill":
            return taps[user, : self._lens[user]]
        return torch.stack([taps[row, length] for row, length in enumerate(self._lens)])


class OneModule:
    """A module alone, on the activations that the reference had at its boundary."""

    metric = "relative L2"

    def __init__(self, generator: tt_llm.Generator, spec: GoldenSpec, golden: Golden) -> None:
        self._runner = ModuleRunner(generator.model.modules, spec)
        self._golden = golden

    def run(self) -> torch.Tensor:
        """The module's output in the golden's shape."""
        return self._runner(self._golden.inputs)

    def figure(self, output: torch.Tensor) -> float:
        """Relative L2 against the golden."""
        return compare_tensors(output, self._golden.output).rel_l2

    @contextmanager
    def boundaries(self, shadows: Shadows) -> Iterator[list[Boundary]]:
        """A module alone has none inside."""
        yield []
