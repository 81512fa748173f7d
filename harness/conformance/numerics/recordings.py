"""The recorded calls and arrays in ``data/``: what was called, with what, and the bits that came out."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

TILE_ROWS = 32  # tokens of every recording, users of its decode steps


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a recorded call. `name` says which array or device input it is; "" in a chained recording."""

    name: str
    dtype: str  # of ttnn.DataType
    layout: str  # of ttnn.Layout
    shape: tuple[int, ...]
    memory_config: dict[str, Any] | None = None  # None: DRAM, interleaved
    sha: str | None = None  # first 16 hex digits of the SHA-256 of its values as float32
    pcc: float | None = None  # to the fp32 golden, as recorded


@dataclass(frozen=True)
class Step:
    """One recorded op call. Arguments are tensors, plain values, or configs as a dict with a "type"."""

    point: str  # what the recording calls its place, such as "qkv"; several outputs are joined by ","
    op: str  # such as "ttnn.linear"
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[TensorSpec, ...]
    program: str | None = None  # the matmul program that ttnn chose: "Mcast1D", "Mcast2D"
    in0_block_w: int | None = None  # of that program, tiles; None where the recording gives no program
    tensors: tuple[TensorSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        arguments = (*self.args, *self.kwargs.values())
        object.__setattr__(self, "tensors", tuple(a for a in arguments if isinstance(a, TensorSpec)))


class Recording:
    """A recording by name: "ops", "layer_A", "whole_P8", ..., see data/README.md."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.info: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))
        self.inputs = {key: _tensor(value) for key, value in self.info.get("device_inputs", {}).items()}
        # An array that equals another one bit for bit is kept once.
        self._same: dict[str, str] = self.info.get("equal", {})

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """All calls, in order. Of a recording in phases use `phase`."""
        return _steps(self.info["steps"])

    def phase(self, name: str) -> tuple[Step, ...]:
        """The calls of one phase of the decode recording."""
        return _steps(self.info["steps"][name])

    @functools.cached_property
    def arrays(self) -> dict[str, torch.Tensor]:
        """Recorded values, float32 (exact: they were bf16, bfp or float32) or int32."""
        return arrays(self.name)

    def recorded(self, name: str) -> torch.Tensor | None:
        """The values of a tensor, None if they were not kept."""
        return self.arrays.get(self._same.get(name, name))


def arrays(name: str) -> dict[str, torch.Tensor]:
    """Every array of ``data/<name>.npz``."""
    with np.load(str(_DATA / f"{name}.npz")) as stored:
        return {key: _values(stored[key]) for key in stored.files}


def _values(stored: np.ndarray[Any, Any]) -> torch.Tensor:
    """uint16 holds bf16 bits: every bfp8 and bfp4 value is exact in bf16 too."""
    if stored.dtype == np.uint16:
        return torch.from_numpy((stored.astype(np.uint32) << 16).view(np.float32))
    return torch.from_numpy(stored)


def _steps(stored: Sequence[dict[str, Any]]) -> tuple[Step, ...]:
    return tuple(
        Step(
            point=one["point"] if isinstance(one["point"], str) else ",".join(one["point"]),
            op=one["op"],
            args=tuple(_argument(value) for value in one["args"]),
            kwargs={key: _argument(value) for key, value in one["kwargs"].items()},
            outputs=tuple(_tensor(value) for value in one["outputs"]),
            program=one.get("program"),
            in0_block_w=one.get("in0_block_w"),
        )
        for one in stored
    )


def _argument(value: Any) -> Any:
    return _tensor(value) if isinstance(value, dict) and "dtype" in value else value


def _tensor(value: dict[str, Any]) -> TensorSpec:
    return TensorSpec(
        name=value.get("tensor", ""),
        dtype=value["dtype"],
        layout=value["layout"],
        shape=tuple(value["shape"]),
        memory_config=value.get("memory_config"),
        sha=value.get("sha"),
        pcc=value.get("pcc"),
    )


_DATA = importlib.resources.files("harness.conformance.numerics") / "data"
