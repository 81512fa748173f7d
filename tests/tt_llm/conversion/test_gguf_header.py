"""The header of a GGUF: what it says, and that no bytes whatever make more of it than one line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_llm import InputError
from tt_llm.conversion.gguf_families import hf_settings
from tt_llm.conversion.gguf_file import GgufFile
from tt_llm.conversion.gguf_header import read_header

NUMBERS = (
    *("block_count", "embedding_length", "attention.head_count", "attention.key_length", "rope.scaling.type"),
    *("rope.freq_base", "rope.dimension_count", "feed_forward_length", "rope.scaling.factor"),
    *("attention.layer_norm_rms_epsilon", "attention.sliding_window_pattern", "context_length"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Values of every type, and two tensors."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        ("uint8", 200),
        ("int8", -3),
        ("uint16", 60000),
        ("int16", -4),
        ("uint32", 1 << 31),
        ("int32", -5),
        ("uint64", 1 << 40),
        ("int64", -(1 << 40)),
        ("float32", 0.5),
        ("float64", 0.1),
        ("bool", True),
        ("string", "ä"),
    ):
        getattr(writer, f"add_{add}")(f"one.{add}", value)
    writer.add_array("one.array", [1, 2, 3])
    writer.add_array("one.words", ["a", "bc"])
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_head_count(2)
    writer.add_tensor("token_embd.weight", np.arange(192, dtype=np.float32).reshape(3, 64))
    quantised = gguf.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_output.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_says_what_the_packages_own_reader_says(small: Path) -> None:
    """Every value and every tensor; of texts in arrays only that they are there."""
    fields, tensors = read_header(memoryview(small.read_bytes()))
    reader = gguf.GGUFReader(small)
    theirs = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF")}
    assert fields == theirs | {"one.words": None}
    for theirs_of_it in reader.tensors:
        ours = tensors[theirs_of_it.name]
        assert (ours.kind, ours.start) == (int(theirs_of_it.tensor_type), theirs_of_it.data_offset)
        assert ours.end - ours.start == theirs_of_it.n_bytes
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "token_embd.weight": (3, 64),
        "blk.0.attn_output.weight": (2, 64),
    }


@pytest.mark.parametrize(
    ("at", "bytes_", "says"),
    [
        (0, b"GGML", "does not begin"),
        (4, struct.pack("<I", 1), "version 1, not"),
        (4, struct.pack(">I", 3), "of the other byte order"),
        (8, struct.pack("<Q", 1 << 60), "within its header"),
        (16, struct.pack("<Q", 1 << 60), "within its header"),
        (24, struct.pack("<Q", 1 << 63), "within its header"),
    ],
)
def test_what_is_wrong_is_said(
    small: Path, tmp_path: Path, one_line: Any, at: int, bytes_: bytes, says: str
) -> None:
    """Counts beyond the file's end included, at once."""
    data = bytearray(small.read_bytes())
    data[at : at + len(bytes_)] = bytes_
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged or truncated GGUF") as caught:
        GgufFile(path)
    assert says in one_line(caught.value)


def read(path: Path, data: bytes) -> None:
    """Everything that is read before tensors are: fine, or one line."""
    path.write_bytes(data)
    said = f"{path}"
    try:
        hf_settings(GgufFile(path))
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert str(path) in said


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_bytes_are_a_model_or_one_line(small: Path, data: st.DataObject) -> None:
    """A whole file with bytes changed, taken out or put in, and bytes at random behind the magic."""
    whole = small.read_bytes()
    if data.draw(st.booleans(), "random"):
        made = b"GGUF" + struct.pack("<I", 3) + data.draw(st.binary(max_size=200))
    else:
        changed = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4), "changes")):
            at = data.draw(st.integers(0, len(changed) - 1), "at")
            length = data.draw(st.sampled_from([0, 1, 4, 8]), "length")
            changed[at : at + length] = data.draw(st.binary(max_size=8), "bytes")
        made = bytes(changed)
    read(small.parent / "fuzzed.gguf", made)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NUMBERS),
    value=st.one_of(st.integers(-(2**31), 2**31 - 1), st.floats(), st.booleans(), st.text(max_size=4)),
    architecture=st.sampled_from(
        ["llama", "gemma2", "gemma3", "phi3", "granite", "smollm3", "stablelm", "x"]
    ),
)
def test_any_metadata_are_a_model_or_one_line(small: Path, name: str, value: Any, architecture: str) -> None:
    """Of any type and size, in families that make something of them."""
    path = small.parent / "metadata.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    said = {
        "block_count": 1,
        "embedding_length": 64,
        "attention.head_count": 2,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.sliding_window": 8,
        "feed_forward_length": 64,
        "context_length": 64,
    } | {name: value}
    for key, one in said.items():
        kind = {bool: "bool", int: "int32", float: "float64", str: "string"}[type(one)]
        getattr(writer, f"add_{kind}")(f"{architecture}.{key}", one)
    for tensor in ("token_embd.weight", "blk.0.attn_output.weight"):
        writer.add_tensor(tensor, np.zeros((2, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read(path, path.read_bytes())
