"""The op log: every ttnn op a piece of model code calls, with the specs of the tensors that go in and come out.

It wraps the ops of whatever answers `import ttnn`, so the emulator and the real ttnn write the same log, and the two can
be held against one another op by op.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import ModuleType
from typing import Any

Op = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_MASKED = "ttnn.transformer.scaled_dot_product_attention"
# What is kept of a compute kernel config or a program config: how an op multiplies, and on how many cores in what blocks.
CONFIG_FIELDS = (
    "math_fidelity",
    "fp32_dest_acc_en",
    "compute_with_storage_grid_size",
    "in0_block_w",
    "per_core_M",
    "per_core_N",
    "out_subblock_h",
    "out_subblock_w",
    "q_chunk_size",
    "k_chunk_size",
)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its values: shapes in elements, the rest as ttnn spells it.

    `memory` is "INTERLEAVED/DRAM" or, sharded, "WIDTH_SHARDED/L1 [32, 96] ROW_MAJOR (0,0)-(5,0)".
    """

    shape: tuple[int, ...]
    padded_shape: tuple[int, ...]
    dtype: str
    layout: str
    memory: str


@dataclass(frozen=True)
class OpRecord:
    """One op call: its full ttnn name, and the tensors among its arguments and results, in order.

    `attributes`: its plain keyword arguments and the CONFIG_FIELDS of its configs, as text ("math_fidelity": "HiFi2",
    "program_config": the config's class, "compute_with_storage_grid_size": "8x8"). Two calls are equal without them.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    attributes: dict[str, str] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """What makes two calls equal, as plain JSON values."""
        values = asdict(self)
        del values["attributes"]
        return values


@contextmanager
def intercepted(
    ttnn: ModuleType, names: Iterable[str], call: Callable[[str, Op, Args, Kwargs], Any]
) -> Iterator[None]:
    """While it lasts, a call of one of the named ops ("ttnn.linear") goes to `call(name, op, args, kwargs)` in its place.

    Names the module does not have are left alone. Calls nested in another intercepted op, or made by `call` itself, are
    that op's own business and go straight through.
    """
    busy = False

    def wrap(name: str, op: Op) -> Op:
        @functools.wraps(op)
        def through(*args: Any, **kwargs: Any) -> Any:
            nonlocal busy
            if busy:
                return op(*args, **kwargs)
            busy = True
            try:
                return call(name, op, args, kwargs)
            finally:
                busy = False

        return through

    originals = []
    for name in names:
        *path, attribute = name.split(".")[1:]
        owner: Any = ttnn
        for part in path:
            owner = getattr(owner, part, None)
        op = getattr(owner, attribute, None)
        if op is not None:
            originals.append((owner, attribute, op))
            setattr(owner, attribute, wrap(name, op))
    try:
        yield
    finally:
        for owner, attribute, op in originals:
            setattr(owner, attribute, op)


@contextmanager
def recorded(ttnn: ModuleType, names: Iterable[str]) -> Iterator[list[OpRecord]]:
    """While it lasts, every call of the named ops ("ttnn.linear", "ttnn.experimental.nlp_concat_heads") is logged.

    A call that raises is not logged, nor is one nested in another logged op. What ttnn runs of its own within a call, and no
    Python sees, is: the mask of an attention divided by a scale that is not 1.
    """
    log: list[OpRecord] = []

    def call(name: str, op: Op, args: Args, kwargs: Kwargs) -> Any:
        # Specs first: an op may free or overwrite what it was given.
        inputs = tuple(tensor_spec(t) for t in tensors_in((args, kwargs), ttnn.Tensor))
        divided = _divided_mask(name, kwargs)
        result = op(*args, **kwargs)
        outputs = tuple(tensor_spec(t) for t in tensors_in(result, ttnn.Tensor))
        log.extend(divided)
        log.append(OpRecord(name, inputs, outputs, attributes(kwargs)))
        return result

    with intercepted(ttnn, names, call):
        yield log


def _divided_mask(name: str, kwargs: Kwargs) -> list[OpRecord]:
    """The op that ttnn runs on a prefill attention's mask, as a graph capture shows it: a product with a number, into DRAM."""
    mask = kwargs.get("attn_mask")
    if name != _MASKED or mask is None or kwargs.get("scale") == 1:
        return []
    spec = tensor_spec(mask)
    return [OpRecord("ttnn.multiply", (spec,), (replace(spec, memory="INTERLEAVED/DRAM"),))]


def attributes(kwargs: Kwargs) -> dict[str, str]:
    """The attributes of a call with these keyword arguments."""
    attributes_ = {}
    for name, value in kwargs.items():
        if name.endswith("_config") and not hasattr(value, "memory_layout"):
            fields = {field: _plain(getattr(value, field, None)) for field in CONFIG_FIELDS}
            attributes_.update({field: text for field, text in fields.items() if text is not None})
        if name == "program_config":
            attributes_[name] = type(value).__name__
        elif (text := _plain(value)) is not None:
            attributes_[name] = text
    return attributes_


def _plain(value: Any) -> str | None:
    """A number, a text, an enum's name or a grid as "columns x rows"; None for anything else."""
    if isinstance(value, bool | int | float | str):
        return str(value)
    if hasattr(value, "x") and hasattr(value, "y"):
        return f"{value.x}x{value.y}"
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else None


def tensor_spec(tensor: Any) -> TensorSpec:
    """The spec of a ttnn tensor, the emulator's or the real one."""
    on_device = tensor.storage_type().name == "DEVICE"
    return TensorSpec(
        shape=tuple(tensor.shape),
        padded_shape=tuple(tensor.padded_shape),
        dtype=tensor.dtype.name,
        layout=_layout(tensor.layout),
        memory=_memory(tensor.memory_config()) if on_device else "HOST",
    )


def _layout(layout: Any) -> str:
    return str(layout.name)


def _memory(config: Any) -> str:
    text = f"{config.memory_layout.name}/{config.buffer_type.name}"
    spec = config.shard_spec
    if spec is None:
        return text
    ranges = sorted((r.start.y, r.start.x, r.end.y, r.end.x) for r in spec.grid.ranges())
    cores = " ".join(f"({x0},{y0})-({x1},{y1})" for y0, x0, y1, x1 in ranges)
    return f"{text} {list(spec.shape)} {spec.orientation.name} {cores}"


def tensors_in(value: Any, kind: type) -> Iterator[Any]:
    """The tensors in nested arguments or results, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, kind)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item, kind)
