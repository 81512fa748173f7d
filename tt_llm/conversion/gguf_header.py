"""The header of a GGUF file: metadata, and where each tensor lies. As ggml's docs/gguf.md has it, versions 2 and 3.

Read here, not by the package gguf: its reader goes on past the end of a damaged file for as long as a count says.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

# Of a value's type: how Python's struct reads it. 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 1 << 16  # of an array that is kept; a vocabulary's are not


@dataclass(frozen=True)
class TensorInfo:
    """`kind` is a number of ggml's; the shape is as PyTorch has it; bytes [start, end) of the file."""

    kind: int
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(data: memoryview) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """Metadata and tensors by name; of long arrays and of arrays of text only that they are there: None.

    Raises ValueError for bytes that are no such header, and for a tensor that does not lie within them.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    cursor = _Cursor(data)
    if bytes(cursor.take(4)) != b"GGUF":
        raise ValueError("it does not begin as a GGUF does")
    version = cursor.number("I")
    if version not in (2, 3):
        swapped = " of the other byte order" if version in (2 << 24, 3 << 24) else ""
        raise ValueError(f"version {version}{swapped}, not 2 or 3")
    tensors, count = cursor.number("Q"), cursor.number("Q")
    fields: dict[str, Any] = {}
    for _ in range(count):
        name = cursor.text()
        fields[name] = _value(cursor, cursor.number("I"))
    places: list[tuple[str, int, tuple[int, ...], int]] = []
    for _ in range(tensors):
        name, dimensions = cursor.text(), cursor.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"tensor {name} has {dimensions} dimensions")
        sizes = tuple(cursor.number("Q") for _ in range(dimensions))
        places.append((name, cursor.number("I"), sizes[::-1], cursor.number("Q")))
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"general.alignment {alignment!r}")
    base = -(-cursor.at // alignment) * alignment
    infos: dict[str, TensorInfo] = {}
    for name, kind, shape, offset in places:
        if kind not in [int(code) for code in GGMLQuantizationType]:
            raise ValueError(f"tensor {name} is of the unknown type {kind}")
        per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if name in infos or not shape or shape[-1] % per_block:
            raise ValueError(
                f"tensor {name} {list(shape)} is there twice, or not of whole blocks of {per_block}"
            )
        start = base + offset
        end = start + math.prod(shape) // per_block * block_bytes
        if end > len(data):
            raise ValueError(f"{len(data)} of {end} bytes")
        infos[name] = TensorInfo(kind, shape, start, end)
    return fields, infos


class _Cursor:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self._data) - self.at:
            raise ValueError(f"it ends at byte {len(self._data)}, within its header")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return value

    def text(self) -> str:
        return str(self.take(self.number("Q")), "utf-8")


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.text()
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind != _ARRAY:
        raise ValueError(f"a value of the unknown type {kind}")
    of, count = cursor.number("I"), cursor.number("Q")
    if of == _STRING:
        for _ in range(count):
            cursor.take(cursor.number("Q"))
        return None
    if of not in _SCALARS:
        raise ValueError(f"an array of the type {of}")
    raw = cursor.take(count * struct.calcsize(f"<{_SCALARS[of]}"))
    return list(struct.unpack(f"<{count}{_SCALARS[of]}", raw)) if count <= _MOST_ELEMENTS else None
