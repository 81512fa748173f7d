"""What is called below the registered ops of the real ttnn: `ttnn._ttnn.operations.*`, and the distribution of tensors to a mesh.

A bound function that a registered op stands for is that op, so that it is seen. Of any other that takes or gives device tensors
nobody knows what it does: they are unknown from then on, and the function is named.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from harness.targets.shadow.calls import Calls
from harness.targets.shadow.coverage import Coverage, Source
from harness.targets.shadow.transfers import Transfers

_TRACES = ("begin_trace_capture", "end_trace_capture", "execute_trace", "release_trace")


class Below:
    """`install` has these calls seen. It comes last, when all that stands for ttnn's own calls is in place."""

    def __init__(self, calls: Calls, transfers: Transfers, coverage: Callable[[], Coverage]) -> None:
        self._calls, self._transfers, self._coverage = calls, transfers, coverage
        self._ttnn = calls.values.ttnn

    def install(self) -> None:
        """Replaces the functions wherever ttnn's modules have them."""
        ttnn = self._ttnn
        ops = {id(op.function): op for op in ttnn.decorators.REGISTERED_OPERATIONS.operations}
        instead: dict[int, Any] = {}
        for name, function in _functions(ttnn._ttnn.operations):
            op: Any = ops.get(id(function))
            full = getattr(op or function, "python_fully_qualified_name", "")
            public = _at(ttnn, full) or op
            if name.rpartition(".")[2] in _TRACES:
                public = getattr(ttnn, name.rpartition(".")[2])
            instead[id(function)] = self._unseen(name, function) if public is None else public
        devices = ttnn._ttnn.multi_device
        for function in (devices.distribute_tensor, devices.aggregate_tensor):
            stand_in = getattr(self, f"_{function.__name__}")
            instead[id(function)] = functools.wraps(function)(functools.partial(stand_in, function))
        _replace(instead)

    def _unseen(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def unseen(*args: Any, **kwargs: Any) -> Any:
            inputs = self._calls.device_tensors((args, kwargs))
            result = function(*args, **kwargs)
            outputs = self._calls.device_tensors((result,))
            if outputs or (inputs and result is None):  # a question about tensors has another answer
                why = "no registered op: what it does is not known"
                self._coverage().explain(name, Source.NONE, why)
                for real in (*inputs, *outputs):
                    if real.is_allocated():
                        self._calls.unknown(name, real)
                self._coverage().count(name, Source.NONE, 0.0, 0.0)
            return result

        return unseen

    def _distribute_tensor(
        self, distribute: Callable[..., Any], tensor: Any, mapper: Any, mesh_device: Any = None
    ) -> Any:
        host = self._transfers.on_host(tensor)
        spread = distribute(host, mapper)
        if mesh_device is None:
            return spread
        return self._transfers.placed("ttnn.distribute_tensor", spread, mesh_device)

    def _aggregate_tensor(self, aggregate: Callable[..., Any], tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return aggregate(self._transfers.on_host(tensor), *args, **kwargs)


def _functions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The callables of bound modules, without classes, by their full names."""
    for name, value in vars(module).items():
        if name.startswith("__") or isinstance(value, type):
            continue
        if isinstance(value, ModuleType):
            if value.__name__.startswith(f"{module.__name__}."):
                yield from _functions(value)
        elif callable(value):
            yield f"{module.__name__}.{name}", value


def _at(ttnn: Any, full_name: str) -> Any:
    """What ttnn's users have under an op's full name; None where it has none."""
    owner = ttnn if full_name else None
    for part in full_name.split(".")[1:]:
        owner = getattr(owner, part, None)
    return owner


def _replace(instead: dict[int, Any]) -> None:
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "ttnn" and isinstance(module, ModuleType):
            _replace_in(module, instead, set())


def _replace_in(module: ModuleType, instead: dict[int, Any], visited: set[int]) -> None:
    visited.add(id(module))
    for name, value in list(vars(module).items()):
        if id(value) in instead:
            setattr(module, name, instead[id(value)])
        elif (
            isinstance(value, ModuleType)
            and value.__name__.startswith("ttnn._ttnn")
            and id(value) not in visited
        ):
            _replace_in(value, instead, visited)
