"""From the real ttnn's types to the emulator's: the arguments of a call, and what is known of a tensor without its values."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from harness.emulator import api
from harness.emulator.spec import geometry, memory_config, program_configs
from harness.emulator.spec.types import BufferType, DataType, Layout
from harness.targets.shadow.mesh import ValuesMesh

_PLAIN = frozenset((bool, int, float, str, type(None)))


class NotConvertible(LookupError):
    """The emulator has nothing that this value of the real ttnn could become; the message names it."""


class Spec(NamedTuple):
    """A tensor without its values, in the emulator's types."""

    shape: geometry.Shape
    dtype: DataType
    layout: Layout
    config: memory_config.MemoryConfig


class Conversion:
    """Converts values of one real ttnn. `tensor` and `mesh`: what stands for a real tensor and a real mesh."""

    def __init__(self, ttnn: Any, tensor: Callable[[Any], Any], mesh: Callable[[Any], ValuesMesh]) -> None:
        self._configs: dict[Any, memory_config.MemoryConfig] = {}
        self._members: dict[int, Any] = {}  # by the id of the real one: members of an enum are never freed
        self._specs: dict[tuple[int, int, int], list[tuple[Any, Spec]]] = {}
        self._converters: dict[type, Callable[[Any], Any]] = {
            ttnn.Tensor: tensor,
            ttnn.MeshDevice: mesh,
            ttnn.MemoryConfig: self.memory,
            ttnn.Shape: lambda shape: geometry.Shape(tuple(shape)),
            ttnn.CoreCoord: lambda core: geometry.CoreCoord(core.x, core.y),
            ttnn.CoreGrid: lambda grid: geometry.CoreGrid(x=grid.x, y=grid.y),
            ttnn.CoreRangeSet: _ranges,
            ttnn.UnaryWithParam: self._unary,
            ttnn.ThrottleLevel: lambda level: int(level.value),
            list: self._each,
            tuple: lambda values: tuple(self._each(values)),
            dict: lambda values: {key: self.value(each) for key, each in values.items()},
        }
        for name, config in vars(program_configs).items():
            if isinstance(config, type) and dataclasses.is_dataclass(config) and not name.startswith("_"):
                for real in (getattr(ttnn, name, None), getattr(ttnn._ttnn.operations.core, name, None)):
                    if isinstance(real, type):
                        self._converters[real] = self._by_fields(config)

    def value(self, value: Any) -> Any:
        """The emulator's for a value of the real ttnn; numbers, texts and torch tensors are the same to both.

        Raises NotConvertible.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        converter = self._converters.get(kind)
        if converter is not None:
            return converter(value)
        if isinstance(value, enum.Enum):
            return self.member(value)
        if kind.__module__.startswith("ttnn"):
            raise NotConvertible(f"the emulator has no {kind.__name__}")
        return value

    def _each(self, values: Iterable[Any]) -> list[Any]:
        return [each if type(each) in _PLAIN else self.value(each) for each in values]

    def member(self, value: enum.Enum) -> Any:
        """A member of an enum, by its name: the real one numbers some that the emulator lacks."""
        member = self._members.get(id(value))
        if member is None:
            kind = getattr(api, type(value).__name__, None)
            member = getattr(kind, value.name, None)
            if member is None:
                raise NotConvertible(f"the emulator has no {type(value).__name__}.{value.name}")
            self._members[id(value)] = member
        return member

    def spec(self, tensor: Any) -> Spec:
        """Of a real tensor; equal ones are one and the same. Raises NotConvertible for a format that the emulator lacks."""
        real = tensor.spec
        # Equal specs have different hashes.
        alike = (tensor.logical_volume(), id(tensor.dtype), id(tensor.layout))
        specs = self._specs.setdefault(alike, [])
        for one, spec in specs:
            if one == real:
                return spec
        spec = Spec(
            geometry.Shape(tensor.shape),
            self.member(tensor.dtype),
            self.member(tensor.layout),
            self.memory(tensor.memory_config()),
        )
        specs.append((real, spec))
        return spec

    def memory(self, config: Any) -> memory_config.MemoryConfig:
        """A memory config; one sharded over more than two dimensions has no shard spec."""
        converted = self._configs.get(config)
        if converted is None:
            spec = config.shard_spec
            if spec is not None:
                shards = [int(size) for size in spec.shape]
                spec = memory_config.ShardSpec(_ranges(spec.grid), shards, self.member(spec.orientation))
            converted = memory_config.MemoryConfig(
                self.member(config.memory_layout), self.buffer_type(config.buffer_type), spec
            )
            self._configs[config] = converted
        return converted

    def buffer_type(self, value: Any) -> BufferType:
        member: BufferType = self.member(value)
        return member

    def _unary(self, fused: Any) -> Any:
        return program_configs.UnaryWithParam(self.member(fused.op_type), *getattr(fused, "params", ()))

    def _by_fields(self, config: type) -> Callable[[Any], Any]:
        names = [field.name for field in dataclasses.fields(config)]

        def convert(real: Any) -> Any:
            return config(**{name: self.value(getattr(real, name)) for name in names if hasattr(real, name)})

        return convert


def _ranges(cores: Any) -> geometry.CoreRangeSet:
    return geometry.CoreRangeSet(
        [geometry.CoreRange((r.start.x, r.start.y), (r.end.x, r.end.y)) for r in cores.ranges()]
    )
