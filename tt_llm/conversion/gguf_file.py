"""A GGUF file: what its metadata say, and its tensors as floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tt_llm.conversion.gguf_header import read_header
from tt_llm.errors import InputError, on_one_line

# Of the metadata that a family has, those that bear on nothing here.
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class GgufFile:
    """Its header, read at once; tensors are read when they are asked for.

    Raises InputError unless the file is a GGUF, and every tensor that its header names lies whole in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = np.memmap(path, np.uint8, "r")
            self._fields, self._tensors = read_header(self._data.data)
        except (ValueError, OverflowError) as error:  # an empty file cannot be mapped
            raise InputError(
                f"model file {path}: damaged or truncated GGUF ({on_one_line(error)})"
            ) from error
        if self.number("split.count", 1) > 1:
            raise InputError(
                f"model file {path}: it is one of {self._fields['split.count']} parts of a model;"
                " merge them first (llama-gguf-split --merge)"
            )
        self.architecture = self.text("general.architecture")
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self._asked: set[str] = set()

    def number(self, name: str, default: float | None = None) -> Any:
        """An int or a float as the file has it. Raises InputError where it is missing without a default, or none."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"model file {self.path}: {name} is {value!r}, not one number")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Raises InputError where it is missing without a default, or no text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise InputError(f"model file {self.path}: {name} is {value!r}, no text")
        return value

    def has(self, name: str) -> bool:
        """Whether the metadata have a value of that name."""
        return self._fields.get(name) is not None

    def own(self, name: str, default: float | None = None) -> Any:
        """A number of the family's own: `name` without the architecture before it."""
        self._asked.add(name)
        return self.number(f"{self.architecture}.{name}", default)

    def own_count(self, name: str, default: int | None = None) -> int:
        """The same of something there is at least one of. Raises InputError too where it is no such number."""
        value = self.own(name, default)
        if not isinstance(value, int) or value < 1:
            raise InputError(
                f"model file {self.path}: {self.architecture}.{name} is {value!r}, not a whole number above 0"
            )
        return value

    def own_value(self, name: str) -> Any:
        """The same of any type, None where there is none."""
        self._asked.add(name)
        return self._fields.get(f"{self.architecture}.{name}")

    def check_all_understood(self) -> None:
        """Raises InputError for metadata of the family that nobody has asked for and that say something."""
        for key, value in self._fields.items():
            family, _, name = key.partition(".")
            if family == self.architecture and name not in self._asked and name not in HARMLESS and value:
                raise InputError(f"model file {self.path}: it says {key} {value!r}, which is not understood")

    def tensor(self, name: str) -> torch.Tensor:
        """As the file has it where it is a float of torch's, else float32."""
        from gguf import GGMLQuantizationType, dequantize

        stored = self._tensors[name]
        raw, kind = np.array(self._data[stored.start : stored.end]), GGMLQuantizationType(stored.kind)
        if kind.name in _FLOATS:
            return torch.from_numpy(raw).view(_FLOATS[kind.name]).reshape(stored.shape)
        try:
            rows = raw.reshape(*stored.shape[:-1], -1)
            return torch.from_numpy(dequantize(rows, kind)).float().reshape(stored.shape)
        except (NotImplementedError, ValueError) as error:
            raise InputError(
                f"model file {self.path}: tensor {name} is {kind.name}, which the package gguf does not dequantise"
            ) from error

    def _get(self, name: str, default: float | str | None) -> Any:
        value = self._fields.get(name)
        if value is None:
            value = default
        if value is None:
            raise InputError(f"model file {self.path}: it does not say {name}")
        return value
