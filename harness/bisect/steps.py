"""One op call held against its golden: how far off by itself, and how far the chain of ops has drifted by then."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.bisect.errors import Error, error, worst
from harness.bisect.losses import swayed
from harness.bisect.places import Place, Places
from harness.bisect.shadows import SOURCES, Shadows, Values, apply, held, written
from harness.emulator.arithmetic.accumulate import FP32_DEST_ERRATUM
from harness.ttnn_calls.op_goldens import TRANSFERS, Golden, NoGolden, golden_of
from harness.ttnn_calls.op_log import Args, Kwargs, Op, tensors_in


@dataclass(frozen=True)
class Step:
    """One op call. `local`: against its golden on the device's own inputs; `accumulated`: against the fp32 chain.

    `inherited` is the largest accumulated error among its inputs. Where the op has no golden `missing` says why, and the
    errors are None. `struck`: how many values an erratum of the hardware spoilt in it, which the emulator counts; as many of
    the worst rows are left out of `local`, for the silicon is to blame there and not the op.
    """

    index: int
    op: str
    place: Place
    facts: Facts
    local: Error | None
    accumulated: Error | None
    inherited: float
    missing: str = ""
    struck: int = 0


@dataclass(frozen=True)
class Facts:
    """What bears on how exact an op can be: formats by ttnn's names, math fidelity, destination, products a sum has.

    `inner`: how far the golden moves when what the op rounds within itself is off by half a unit of bf16 (`losses.swayed`).
    """

    inputs: tuple[str, ...]
    output: str
    fidelity: str | None
    fp32_dest: bool | None
    terms: int
    inner: Error


class Watch:
    """Called for every op: runs it, and compares what it wrote with its golden. `steps` grows by one a call."""

    def __init__(self, ttnn: Any, places: Places, shadows: Shadows) -> None:
        self.steps: list[Step] = []
        self.shadows = shadows
        self._ttnn = ttnn
        self._places = places

    def __call__(self, name: str, op: Op, args: Args, kwargs: Kwargs) -> Any:
        """Runs the op and returns its result."""
        kind = self._ttnn.Tensor
        if name in SOURCES:
            tensor = op(*args, **kwargs)
            self.shadows.put_source(args[0], tensor)
            return tensor
        if name in TRANSFERS:
            return op(*args, **kwargs)
        place = self._places.here()
        inputs = list(tensors_in((args, kwargs), kind))
        facts_in = tuple(tensor.dtype.name for tensor in inputs)
        fidelity, fp32_dest = _compute(kwargs.get("compute_kernel_config"))
        inherited, missing, local, chain, inner = 0.0, "", list[Values](), list[Values](), Error(0.0, 0.0)
        try:
            golden = golden_of(name, op, self._ttnn)
            # Before the op runs: it may free or overwrite what it was given.
            own = {id(tensor): held(self._ttnn, tensor) for tensor in inputs}
            inherited = max((self.shadows.drift(t, own[id(t)], _rel_l2) for t in inputs), default=0.0)
            local = computed(golden, name, args, kwargs, kind, lambda tensor: own[id(tensor)])
            chain = computed(golden, name, args, kwargs, kind, lambda t: self.shadows.get(t) or own[id(t)])
            local = _where_defined(local, chain)
            if "scaled_dot_product_attention" in name:
                off = swayed(own, inputs[0], inputs[1], inputs[2], fidelity)
                inner = worst(computed(golden, name, args, kwargs, kind, lambda t: off[id(t)]), local)
        except NoGolden as reason:
            missing = str(reason)
        terms, struck = _terms(name, inputs), -FP32_DEST_ERRATUM.hits
        result = op(*args, **kwargs)
        struck += FP32_DEST_ERRATUM.hits
        outputs = written(name, args, kwargs, result, kind)
        output = outputs[0].dtype.name if outputs else ""
        facts = Facts(facts_in, output, fidelity, fp32_dest, terms, inner)
        errors: tuple[Error | None, Error | None] = None, None
        if missing:
            for tensor in outputs:
                self.shadows.drop(tensor)
        else:
            device = [held(self._ttnn, tensor) for tensor in outputs]
            errors = worst(device, local, struck), worst(device, chain)
            for tensor, should in zip(outputs, chain, strict=True):
                self.shadows.put(tensor, should)
        self.steps.append(Step(len(self.steps), name, place, facts, *errors, inherited, missing, struck))
        return result


class Raise:
    """Called for every op: those `chosen` give their fp32 result, and keep it unrounded among themselves; the rest run as ever.

    What an op outside the choice reads is that result rounded to its tensor's own format.
    """

    def __init__(
        self, ttnn: Any, places: Places, shadows: Shadows, choice: Callable[[str, Place], bool]
    ) -> None:
        self._ttnn = ttnn
        self._places = places
        self._shadows = shadows
        self._chosen = choice

    def __call__(self, name: str, op: Op, args: Args, kwargs: Kwargs) -> Any:
        """Runs the op, or puts its golden's result in its place, and returns the result."""
        kind = self._ttnn.Tensor
        if name in SOURCES:
            tensor = op(*args, **kwargs)
            self._shadows.put_source(args[0], tensor)
            return tensor
        if name in TRANSFERS:
            return op(*args, **kwargs)
        chain: list[Values] | None = None
        if self._chosen(name, self._places.here()):
            try:
                golden = golden_of(name, op, self._ttnn)
                chain = computed(golden, name, args, kwargs, kind, self._shadows.of)
            except NoGolden:
                pass
        result = op(*args, **kwargs)
        outputs = written(name, args, kwargs, result, kind)
        for place, tensor in enumerate(outputs):
            if chain is None:
                self._shadows.drop(tensor)
            else:
                _overwrite(self._ttnn, tensor, chain[place])
                self._shadows.put(tensor, chain[place])
        return result


def computed(
    golden: Golden, name: str, args: Args, kwargs: Kwargs, kind: type, look: Callable[[Any], Values]
) -> list[Values]:
    """`apply`, where a golden that does not know the call's arguments is no golden. Raises NoGolden."""
    try:
        return apply(golden, name, args, kwargs, kind, look)
    except TypeError as unknown:
        raise NoGolden(f"{name}: its golden does not take this call ({unknown})") from unknown


def _where_defined(values: list[Values], chain: list[Values]) -> list[Values]:
    """What the chain leaves undefined, such as the rows of a decode step without a user, is so for every golden."""
    return [
        [
            torch.where(c.isfinite(), v, math.nan) if v.is_floating_point() else v
            for v, c in zip(vs, cs, strict=True)
        ]
        for vs, cs in zip(values, chain, strict=True)
    ]


def _rel_l2(device: Values, golden: Values) -> float:
    return error(device, golden).rel_l2


def _terms(name: str, inputs: list[Any]) -> int:
    """How many products the longest sum of the op adds up; 1 for an op that sums nothing."""
    short = name.rpartition(".")[2]
    if short in ("linear", "matmul", "rms_norm", "layer_norm"):
        return int(inputs[0].shape[-1])
    if short == "scaled_dot_product_attention":
        return int(inputs[1].shape[-2])
    if "attention_decode" in short:
        # A paged cache's positions: all blocks a user can have.
        paged = len(inputs) > 3
        return int(inputs[3].shape[-1] * inputs[1].shape[-2]) if paged else int(inputs[1].shape[-2])
    return 1


def _compute(config: Any) -> tuple[str | None, bool | None]:
    if config is None:
        return None, None
    return config.math_fidelity.name, bool(config.fp32_dest_acc_en)


def _overwrite(ttnn: Any, tensor: Any, values: Values) -> None:
    mesh = tensor.device()
    same = all(value is values[0] for value in values)
    mapper = ttnn.ReplicateTensorToMesh(mesh) if same else ttnn.ShardTensorToMesh(mesh, dim=0)
    whole = values[0] if same else torch.cat(values, 0)
    if not whole.dtype.is_floating_point:
        whole = whole.to(torch.int32)
    host = ttnn.from_torch(whole, dtype=tensor.dtype, layout=tensor.layout, mesh_mapper=mapper)
    ttnn.copy_host_to_device_tensor(host, tensor)
