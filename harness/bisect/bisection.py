"""One bisection: a run with every op compared, then runs with one layer or one kind of op at a time in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import ttnn

import tt_llm
from harness.bisect.boundaries import Boundary
from harness.bisect.explained import diverges
from harness.bisect.places import Place, Places
from harness.bisect.shadows import SOURCES, Shadows
from harness.bisect.steps import Raise, Step, Watch
from harness.bisect.subjects import Subject
from harness.emulator import op_names
from harness.ttnn_calls.op_log import Args, Kwargs, Op, intercepted

JUMPS = 5  # shown of the ops after which the accumulated error grew most


@dataclass(frozen=True)
class Gain:
    """What the subject's figure becomes when a layer, or a kind of op of a module, computes in fp32."""

    what: str
    before: float
    after: float


@dataclass(frozen=True)
class Bisection:
    """What was found. `figure` is the subject's own against its reference; `gains` are largest first."""

    metric: str
    figure: float
    steps: tuple[Step, ...]
    boundaries: tuple[Boundary, ...]
    gains: tuple[Gain, ...]

    @property
    def divergent(self) -> list[Step]:
        """The ops that are further off on their own inputs than formats and multiplier explain, first one first."""
        return [step for step in self.steps if diverges(step)]

    @property
    def wrong_boundary(self) -> Boundary | None:
        """The first module after which the model's program, in fp32, is not the reference's."""
        return next((boundary for boundary in self.boundaries if not boundary.same), None)

    @property
    def jumps(self) -> list[Step]:
        """The ops at which the accumulated error grew most beyond that of their inputs."""
        compared = [step for step in self.steps if step.accumulated is not None]
        return sorted(compared, key=growth, reverse=True)[:JUMPS]

    @property
    def missing(self) -> dict[str, int]:
        """Ops without a golden, and how often they ran: not covered."""
        names: dict[str, int] = {}
        for step in self.steps:
            if step.missing:
                names[step.op] = names.get(step.op, 0) + 1
        return names

    @property
    def healthy(self) -> bool:
        """Whether nothing diverges, neither an op nor the program."""
        return not self.divergent and self.wrong_boundary is None


def growth(step: Step) -> float:
    """By how much an op's accumulated error exceeds the largest among its inputs."""
    return 0.0 if step.accumulated is None else step.accumulated.rel_l2 - step.inherited


def load(make: Callable[[], tt_llm.Generator]) -> tuple[tt_llm.Generator, Shadows]:
    """Loads a model and keeps its weights as they were on the host, before any rounding."""
    shadows = Shadows(ttnn)

    def keep(name: str, op: Op, args: Args, kwargs: Kwargs) -> Any:
        result = op(*args, **kwargs)
        if name in SOURCES:
            shadows.put_source(args[0], result)
        return result

    with intercepted(ttnn, op_names(), keep):
        return make(), shadows


def bisect(
    generator: tt_llm.Generator, weights: Shadows, subject: Subject, progress: Callable[[str], None]
) -> Bisection:
    """Runs the subject with every op compared; if nothing diverges, again with each layer and each kind of op in fp32."""
    places = Places(generator.model)
    watch = Watch(ttnn, places, weights.copy())
    progress("every op against its golden")
    with (
        torch.inference_mode(),
        intercepted(ttnn, op_names(), watch),
        subject.boundaries(watch.shadows) as boundaries,
    ):
        figure = subject.figure(subject.run())
    bisection = Bisection(subject.metric, figure, tuple(watch.steps), tuple(boundaries), ())
    if not bisection.healthy:
        return bisection
    gains = []
    for what, choice in _candidates(watch.steps):
        progress(f"{what} in fp32")
        raised = Raise(ttnn, places, weights.copy(), choice)
        with torch.inference_mode(), intercepted(ttnn, op_names(), raised):
            gains.append(Gain(what, figure, subject.figure(subject.run())))
    gains.sort(key=lambda gain: gain.after)
    return Bisection(subject.metric, figure, bisection.steps, bisection.boundaries, tuple(gains))


def _candidates(steps: list[Step]) -> Sequence[tuple[str, Callable[[str, Place], bool]]]:
    """The layers, where there are several, and the kinds of op that round anything: (module, op)."""
    rounding = [step for step in steps if step.local is not None and step.local.rel_l2 > 0]
    kinds = dict.fromkeys((step.place.module, step.op) for step in rounding)
    layers = sorted({step.place.layer for step in rounding if step.place.layer is not None})
    candidates = [(f"{op} in {module}", partial(_is_kind, module, op)) for module, op in kinds]
    if len(layers) > 1:
        candidates += [(f"layer {layer}", partial(_is_in_layer, layer)) for layer in layers]
    return candidates


def _is_kind(module: str, op: str, name: str, place: Place) -> bool:
    return (place.module, name) == (module, op)


def _is_in_layer(layer: int, _: str, place: Place) -> bool:
    return place.layer == layer
