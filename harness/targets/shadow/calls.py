"""The hook on every op of the real ttnn: it runs as ever, and beside it the values of what it made are found.

`ttnn.decorators.FastOperation.__call__` is passed by all registered ops, operators and indexing. Ops written in Python pass
through: those they call in turn are seen. Values come from the emulator's op of the same name, else from a golden, else they are
unknown. Whether a result is a view, was written in place or is new follows from the ids of the buffers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Protocol

import torch

from harness.emulator.errors import RaceError, TraceError
from harness.emulator.mesh.queues import set_current_queue
from harness.emulator.runtime.declarations import DECLARATIONS
from harness.emulator.runtime.dispatch import CALLS
from harness.emulator.runtime.tensor import Tensor, tensors_in
from harness.targets.shadow.conversion import Spec
from harness.targets.shadow.coverage import Coverage, Source
from harness.targets.shadow.golden import NoValues, Out, from_golden, has_golden
from harness.targets.shadow.graphs import Graphs
from harness.targets.shadow.values import Values

# Arguments that say how an op runs and never what it gives: the emulator's op need not know them.
HOW = frozenset(
    [
        "queue_id",
        "cq_id",
        "num_links",
        "topology",
        "subdevice_id",
        "sub_device_id",
        "worker_subdevice_id",
        "sub_core_grids",
        "core_grid",
        "num_workers_per_link",
        "chunks_per_sync",
        "num_buffers_per_channel",
        "use_legacy",
        "barrier_semaphore",
        "multi_device_global_semaphore",
        "global_cb",
        "use_multicore",
    ]
)
# Arguments that a call overwrites as a whole: what they held before does not matter.
OUTPUTS = ("output_tensor", "optional_output_tensor", "optional_output", "out")
# What the emulator finds wrong with a program, rather than with its own knowledge, is the user's to hear.
CHECKS = (TraceError, RaceError)
_clock = time.perf_counter


class Conflict(ValueError):
    """The emulator's results cannot stand for the real ones, for they are others; the message says which."""


@dataclass(slots=True)
class Call:
    """A call that is about to run: what its values will be made of, taken before the op may free it."""

    name: str
    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Any]  # its device tensors
    stands_for: dict[int, Tensor]  # the emulator's tensors, by the id of the real tensor object
    source: Source  # the weakest of what it reads
    emulated: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    overwritten: set[int] = field(default_factory=set)  # the buffers given to be written as a whole


class Listener(Protocol):
    """Is told of every op that computes: of its inputs before it runs, of what it made or wrote after."""

    def before(self, call: Call) -> None: ...

    def after(self, call: Call, written: list[Any], source: Source) -> None: ...


class Calls:
    """Answers every call of an op. `special`: what answers for ops that move tensors or end them, by name."""

    def __init__(
        self,
        values: Values,
        coverage: Callable[[], Coverage],
        graphs: Graphs,
        to_host: Callable[[Tensor], Any],
    ) -> None:
        self.values, self._coverage, self._graphs, self.to_host = values, coverage, graphs, to_host
        self._ttnn = values.ttnn
        self._tensor, self._on_device = self._ttnn.Tensor, self._ttnn.is_tensor_storage_on_device
        self.special: dict[str, Callable[..., Any]] = {}
        self.listener: Listener | None = None
        self.real = self._ttnn.decorators.FastOperation.__call__

    def __call__(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The real result; its values are known from now on."""
        name = op.python_fully_qualified_name
        if self._graphs.undispatched:
            return self.real(op, *args, **kwargs)
        special = self.special.get(name)
        if special is not None:
            return special(op, *args, **kwargs)
        if type(op.function) is FunctionType:
            return self.real(op, *args, **kwargs)
        start = _clock()
        queue = kwargs.get("queue_id", kwargs.get("cq_id"))
        if queue is None:
            queue = self._ttnn.get_current_command_queue_id_for_thread()
        before = set_current_queue(int(queue))
        try:
            call = self._prepared(name, op, args, kwargs)
            if self.listener is not None:
                self.listener.before(call)
            begun = _clock()
            result = self.real(op, *args, **kwargs)
            ended = _clock()
            outputs = self.device_tensors((result,))
            if not outputs and not call.inputs:
                return result
            source = self._values(call, outputs)
            if self.listener is not None:
                self.listener.after(call, outputs or self._written(call), source)
        finally:
            set_current_queue(before)
        self._coverage().count(name, source, ended - begun, _clock() - ended + begun - start)
        return result

    def _prepared(self, name: str, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        inputs = self.device_tensors((args, kwargs))
        values = self.values
        targets = [kwargs[key] for key in OUTPUTS if key in kwargs] if kwargs else []
        if name == "ttnn.copy":
            targets += DECLARATIONS[name].written(args, kwargs)
        overwritten: set[int] = set()
        if targets:
            overwritten = {one.buffer_unique_id() for one in self.device_tensors(targets)}
            for uid in overwritten & values.cells.keys():
                values.cells[uid].storage.regain()
        stands_for = {id(real): values.tensor(real) for real in inputs}
        read = [real for real in inputs if not any(real is one for one in targets)] if targets else inputs
        call = Call(name, op, args, kwargs, inputs, stands_for, values.source(read))
        call.overwritten = overwritten
        emulated = CALLS.get(name)
        if emulated is None:
            self._coverage().explain(name, Source.GOLDEN, "the emulator has no such op")
            return call
        taken = _parameters(name)
        values.arguments = stands_for
        try:
            convert = values.conversion.value
            call.emulated = (
                convert(args),
                {key: convert(value) for key, value in kwargs.items() if key in taken or key not in HOW},
            )
        except Exception as error:  # what the emulator cannot be told is its golden's
            self._coverage().explain(name, Source.GOLDEN, str(error))
        values.arguments = {}
        values.free_l1 = None
        if inputs and DECLARATIONS[name].asks_for_l1:
            view = self._ttnn.get_memory_view(inputs[0].device(), self._ttnn.BufferType.L1)
            values.free_l1 = view.largest_contiguous_bytes_free_per_bank
        return call

    # after the real op

    def _values(self, call: Call, outputs: list[Any]) -> Source:
        """Finds the values of a call's results, from the best source there is; returns which."""
        if call.source is Source.NONE:  # a device op may make something finite of NaN
            self._coverage().explain(call.name, Source.NONE, "what it was given is unknown")
        elif call.emulated is not None and self._from_emulator(call, outputs):
            return Source.EXACT
        elif has_golden(call.op) and self._from_golden(call, outputs):
            return Source.GOLDEN
        elif not has_golden(call.op):
            self._coverage().explain(call.name, Source.NONE, "it has no golden either")
        for real in outputs or self._written(call) or call.inputs:
            self.unknown(call.name, real)
        return Source.NONE

    def _from_emulator(self, call: Call, outputs: list[Any]) -> bool:
        values, name = self.values, call.name
        declaration = DECLARATIONS[name]
        assert call.emulated is not None
        args, kwargs = call.emulated
        minding = [mesh for real in outputs if (mesh := values.mesh(real.device())).concerns_traces]
        specs: list[Spec] = []
        try:
            for mesh in minding:
                mesh.places = list(values.places(outputs))
            written = list(tensors_in(declaration.written(args, kwargs))) if declaration.writes else []
            for target in written:
                values.written(target)
            results = list(tensors_in(CALLS[name](*args, **kwargs)))
            if outputs or not written:
                specs = self._agree(name, results, outputs)
        except CHECKS:
            raise
        except Conflict as conflict:
            self._coverage().explain(name, Source.GOLDEN, str(conflict))
            self._coverage().conflict(name, str(conflict))
            return False
        except Exception as error:  # never the user's: the real ttnn took the call
            self._coverage().explain(name, Source.GOLDEN, f"{type(error).__name__}: {error}")
            self._coverage().find(name, f"ttnn takes it, the emulator does not: {error}")
            return False
        finally:
            for mesh in minding:
                mesh.places = []
        for target in written:
            cell = values.of(target)
            if cell is not None:
                cell.source = min(cell.source, call.source)
        for real, tensor, spec in zip(outputs, results, specs, strict=False):
            self._store(call, real, tensor, spec)
        return True

    def _agree(self, name: str, results: Sequence[Tensor], outputs: Sequence[Any]) -> list[Spec]:
        """Holds the emulator's results against the real ones; their specs. Raises Conflict where one cannot stand for another."""
        if len(results) != len(outputs):
            raise Conflict(f"the emulator gives {len(results)} tensors, ttnn {len(outputs)}")
        specs = [self.values.storable(real) for real in outputs]
        for tensor, spec in zip(results, specs, strict=True):
            if tensor.shape != spec.shape or tensor.dtype is not spec.dtype:
                raise Conflict(
                    f"the emulator gives {list(tensor.shape)} {tensor.dtype}, ttnn {list(spec.shape)} {spec.dtype}"
                )
            if tensor.layout is not spec.layout or tensor.config != spec.config:
                self._coverage().conflict(
                    name,
                    f"the emulator gives {tensor.layout} {tensor.config}, ttnn {spec.layout} {spec.config}",
                )
        return specs

    def _from_golden(self, call: Call, outputs: list[Any]) -> bool:
        values, name = self.values, call.name
        try:
            targets = outputs or self._written(call)
            if not targets:
                raise NoValues("it gives no tensor, and nothing says which it writes to")
            args, kwargs = self.with_tensors((call.args, call.kwargs), call.stands_for)
            outs = []
            for real in targets:
                shared = real.buffer_unique_id() in values.cells
                target = call.stands_for.get(id(real)) or (values.tensor(real) if shared else None)
                if target is not None:
                    values.written(target)
                outs.append(Out(values.storable(real), target))
            mesh = values.mesh(targets[0].device())
            mesh.places = list(values.places(targets))
            results = from_golden(call.op, args, kwargs, outs, mesh, self.to_host)
        except CHECKS:
            raise
        except Exception as error:  # a golden may raise anything: the result is unknown, and named
            self._coverage().explain(name, Source.NONE, f"{type(error).__name__}: {error}")
            return False
        source = min(call.source, Source.GOLDEN)
        for real, tensor, out in zip(targets, results, outs, strict=True):
            if out.target is None:
                values.keep(real, tensor, source)
            else:
                values.cells[real.buffer_unique_id()].source = source
        return True

    def _written(self, call: Call) -> list[Any]:
        """The arguments that a call without a result writes to, as far as the emulator's declaration says."""
        declaration = DECLARATIONS.get(call.name)
        if declaration is None or not declaration.writes:
            return []
        return self.device_tensors(declaration.written(call.args, call.kwargs))

    def _store(self, call: Call, real: Any, tensor: Tensor, spec: Spec) -> None:
        """The emulator's result stands for the real one: new, another look at a buffer, or what was written to one."""
        values, source = self.values, call.source
        cell = values.cell(real)
        if cell is None:
            owner = values.of(tensor)
            if owner is not None or tensor.config != spec.config or tensor.layout is not spec.layout:
                tensor = values.copy(tensor, spec)
            values.keep(real, tensor, source)
        elif tensor.storage is cell.storage:
            values.look(real, tensor)
            overwritten = real.buffer_unique_id() in call.overwritten
            cell.source = source if overwritten else min(cell.source, source)
        elif not self._same(values.tensor(real), tensor):
            values.overwrite(call.name, real, tensor, source)

    def _same(self, mine: Tensor, other: Tensor) -> bool:
        """Whether both are known to hold the same already, as after a conversion that changes nothing."""
        if values_are_later(mine):
            return False
        pairs = zip(mine.shards, other.shards, strict=False)
        return len(mine.shards) == len(other.shards) and all(
            torch.equal(a.reshape(-1), b.reshape(-1)) for a, b in pairs
        )

    def unknown(self, name: str, real: Any) -> None:
        """From now on nothing is known of a device tensor."""
        values = self.values
        if values.cell(real) is None:
            values.put(real, values.unknown(real), Source.NONE)
            return
        spec = values.storable(real)
        nothing = Tensor(values.unknown(real), *spec)
        values.overwrite(name, real, nothing, Source.NONE)

    # arguments

    def device_tensors(self, values: Iterable[Any], tensors: list[Any] | None = None) -> list[Any]:
        """The allocated device tensors among values, added to those found."""
        tensors = [] if tensors is None else tensors
        for value in values:
            kind = type(value)
            if kind is self._tensor:
                if self._on_device(value) and value.is_allocated():  # else the real op says so
                    tensors.append(value)
            elif kind is list or kind is tuple:
                self.device_tensors(value, tensors)
            elif kind is dict:
                self.device_tensors(value.values(), tensors)
        return tensors

    def with_tensors(self, value: Any, stands_for: dict[int, Tensor]) -> Any:
        """Arguments for a golden: the emulator's tensors for the real ones, a tuple for a shape, all else as it is."""
        kind = type(value)
        if kind is self._tensor:
            return stands_for[id(value)] if id(value) in stands_for else self.values.tensor(value)
        if kind is self._ttnn.Shape:
            return tuple(value)
        if kind is list or kind is tuple:
            return kind([self.with_tensors(item, stands_for) for item in value])
        if kind is dict:
            return {key: self.with_tensors(item, stands_for) for key, item in value.items()}
        return value


def values_are_later(tensor: Tensor) -> bool:
    """Whether a trace is being captured, so that what a tensor will hold is not known yet."""
    return tensor.storage is not None and tensor.storage.device.capturing is not None


_TAKEN: dict[str, frozenset[str]] = {}


def _parameters(name: str) -> frozenset[str]:
    from harness.emulator.spec.signatures import Taken

    parameters = _TAKEN.get(name)
    if parameters is None:
        parameters = _TAKEN[name] = Taken.of(DECLARATIONS[name].function).names
    return parameters
