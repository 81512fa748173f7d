"""A call of one op as a value: it can be drawn, printed, sent to another process, and made on either ttnn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

INTEGERS = {"uint32": (0, 2**32), "int32": (-(2**31), 2**31), "uint16": (0, 2**16), "uint8": (0, 2**8)}


@dataclass(frozen=True)
class Name:
    """Something ttnn has under a name: `Name("bfloat16")`, `Name("UnaryOpType.SILU")`."""

    path: str

    def made(self, ttnn: Any, device: Any) -> Any:
        return functools.reduce(getattr, self.path.split("."), ttnn)

    def __repr__(self) -> str:
        return f"ttnn.{self.path}"


@dataclass(frozen=True)
class Made:
    """What ttnn makes of other values: `Made("UnaryWithParam", (Name("UnaryOpType.SILU"),))`."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def made(self, ttnn: Any, device: Any) -> Any:
        make = Name(self.name).made(ttnn, device)
        return make(*built(self.args, ttnn, device), **built(self.kwargs, ttnn, device))

    def __repr__(self) -> str:
        return _written(f"ttnn.{self.name}", self.args, self.kwargs)


@dataclass(frozen=True)
class Device:
    """The open mesh."""

    def made(self, ttnn: Any, device: Any) -> Any:
        return device

    def __repr__(self) -> str:
        return "device"


@dataclass(frozen=True)
class Config:
    """A memory config. Sharded (HEIGHT, WIDTH, BLOCK): `shard` rows and columns a core, on `cores` (columns, rows) of the grid."""

    buffer: str = "DRAM"
    sharding: str | None = None
    shard: tuple[int, int] | None = None
    cores: tuple[int, int] = (1, 1)
    orientation: str = "ROW_MAJOR"

    def made(self, ttnn: Any, device: Any) -> Any:
        layout = f"{self.sharding}_SHARDED" if self.sharding else "INTERLEAVED"
        spec = None
        if self.shard is not None:
            last = ttnn.CoreCoord(self.cores[0] - 1, self.cores[1] - 1)
            grid = ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, 0), last)])
            spec = ttnn.ShardSpec(grid, list(self.shard), getattr(ttnn.ShardOrientation, self.orientation))
        return ttnn.MemoryConfig(
            getattr(ttnn.TensorMemoryLayout, layout), getattr(ttnn.BufferType, self.buffer), spec
        )

    def __repr__(self) -> str:
        if self.sharding is None:
            return self.buffer
        x, y = self.cores
        turned = "" if self.orientation == "ROW_MAJOR" else f" {self.orientation}"
        return f"<{self.sharding} {self.buffer} {self.shard} on {x}x{y}{turned}>"


@dataclass(frozen=True)
class Tensor:
    """A ttnn tensor made from random numbers. `values`: a kind of `random_values`; `mapped`: a mesh dim's slices along a dim."""

    shape: tuple[int, ...]
    dtype: str = "bfloat16"
    layout: str = "TILE"
    config: Config = Config()
    values: str = "normal"
    seed: int = 0
    host: bool = False
    mapped: int | None = None

    def torch(self) -> torch.Tensor:
        return random_values(self.shape, self.dtype, self.values, self.seed)

    def made(self, ttnn: Any, device: Any) -> Any:
        place: dict[str, Any] = {}
        if not self.host:
            place = {"device": device, "memory_config": self.config.made(ttnn, device)}
        if self.mapped is not None:
            place["mesh_mapper"] = ttnn.ShardTensorToMesh(device, self.mapped)
        return ttnn.from_torch(
            self.torch(),
            dtype=getattr(ttnn, self.dtype),
            layout=getattr(ttnn, f"{self.layout}_LAYOUT"),
            **place,
        )

    def __repr__(self) -> str:
        said = [str(list(self.shape)), self.dtype]
        said += ["RM"] * (self.layout == "ROW_MAJOR") + [repr(self.config)] * (self.config != Config())
        said += [self.values] * (self.values != "normal") + ["host"] * self.host
        said += [f"split along {self.mapped}"] * (self.mapped is not None)
        return f"T({', '.join(said)}, seed={self.seed})"


def random_values(shape: tuple[int, ...], dtype: str, kind: str, seed: int) -> torch.Tensor:
    """Numbers of a seed: int64 for an integer dtype, float32 for others.

    Kinds: "normal"; "positive", at least 2^-6; "small", integers of -8 to 8; "wide", over 2^-30 to 2^30; "full", an integer
    dtype's whole range; "below N", integers of 0 to N - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind.startswith("below "):
        drawn = torch.randint(0, int(kind.split()[1]), shape, generator=generator)
        return drawn if dtype in INTEGERS else drawn.float()
    if dtype in INTEGERS:
        low, high = INTEGERS[dtype] if kind == "full" else (max(INTEGERS[dtype][0], -8), 9)
        return torch.randint(low, high, shape, generator=generator)
    if kind == "small":
        return torch.randint(-8, 9, shape, generator=generator).float()
    drawn = torch.randn(shape, generator=generator)
    if kind == "positive":
        return drawn.abs() + 2**-6
    if kind == "wide":
        return drawn * torch.exp2(torch.randint(-30, 31, shape, generator=generator).float())
    if kind != "normal":
        raise ValueError(f"values {kind!r}: see random_values")
    return drawn


@dataclass(frozen=True)
class Call:
    """`op(*args, **kwargs)`, of which arguments may be the values above, in lists too. `written`: tensors among the
    arguments, by place or keyword, that the op writes, and that are therefore part of the answer."""

    op: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    written: tuple[int | str, ...] = ()

    def run(self, ttnn: Any, device: Any) -> tuple[list[Any], list[Any]]:
        """The arguments' tensors and the results, in order."""
        args, kwargs = built(self.args, ttnn, device), built(self.kwargs, ttnn, device)
        result = Name(self.op.removeprefix("ttnn.")).made(ttnn, device)(*args, **kwargs)
        results = list(result) if isinstance(result, tuple | list) else [result]
        return [args, kwargs], results + [args[w] if isinstance(w, int) else kwargs[w] for w in self.written]

    def with_torch(self, tensor: Callable[[Tensor], torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with torch tensors in place of its own; names, configs and the rest stay as they are."""
        return _mapped(self.args, tensor), _mapped(self.kwargs, tensor)

    def __repr__(self) -> str:
        return _written(self.op, self.args, self.kwargs)


def built(value: Any, ttnn: Any, device: Any) -> Any:
    """A value with all that stands in it made."""
    if isinstance(value, dict):
        return {key: built(each, ttnn, device) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(built(each, ttnn, device) for each in value)
    return value.made(ttnn, device) if hasattr(value, "made") else value


def _mapped(value: Any, tensor: Callable[[Tensor], torch.Tensor]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(each, tensor) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_mapped(each, tensor) for each in value)
    return tensor(value) if isinstance(value, Tensor) else value


def _written(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return f"{name}({', '.join([*map(repr, args), *(f'{key}={value!r}' for key, value in kwargs.items())])})"


def described(value: Any, ttnn: Any) -> str:
    """The spec of a result: of a tensor its shapes, dtype, layout, place and shards."""
    if isinstance(value, torch.Tensor):
        return f"torch {list(value.shape)} {value.dtype}"
    if not isinstance(value, ttnn.Tensor):
        return str(value)
    config = value.memory_config()
    said = f"{list(value.shape)} padded {list(value.padded_shape)} {value.dtype.name} {value.layout.name} "
    if value.storage_type() == ttnn.StorageType.HOST:
        return said + "host"
    said += f"{config.memory_layout.name} {config.buffer_type.name}"
    spec = config.shard_spec
    if spec is None:
        return said
    ranges = sorted((r.start.x, r.start.y, r.end.x, r.end.y) for r in spec.grid.ranges())
    return f"{said} {list(spec.shape)} on {ranges} {spec.orientation.name}"
