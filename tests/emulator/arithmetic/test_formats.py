from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.emulator.arithmetic.formats import (
    host_round,
    l1_accumulate,
    pack_round,
    storage_dtype,
    typecast_round,
    unpack,
)
from harness.emulator.spec.types import DataType

VECTORS = np.load(Path(__file__).parents[1] / "data" / "formats.npz")
FORMATS = {
    "bf16": DataType.BFLOAT16,
    "fp32": DataType.FLOAT32,
    "bfp8": DataType.BFLOAT8_B,
    "bfp4": DataType.BFLOAT4_B,
}


def recorded(name: str) -> Tensor:
    """A recorded array of float bit patterns as float32 or bfloat16, or of L1 bytes as bfloat16 values."""
    array = VECTORS[name]
    if array.dtype == np.uint8:
        return block_float_values(array, name[-4:])
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.view(np.float32))


def block_float_values(l1: np.ndarray[Any, Any], format_name: str) -> Tensor:
    """What the bytes of a tile in L1 stand for: 64 exponents, then 16 elements for each; exponent 255 is one like any other."""
    exponents, elements = l1[:64].astype(np.int64), l1[64:].astype(np.int64)
    if format_name == "bfp4":
        elements = np.stack([elements & 15, elements >> 4], -1).reshape(-1) << 4
    elements = elements.reshape(64, 16)
    magnitudes = elements & 127
    shift = 7 - np.log2(np.maximum(magnitudes, 1)).astype(np.int64)  # to a bfloat16's hidden bit
    exponent = exponents[:, None] + 1 - shift
    normal = exponent << 7 | (magnitudes << shift & 127)
    denormal = magnitudes << np.maximum(exponents[:, None], 0).clip(max=7)
    bits = np.where(magnitudes == 0, 0, np.where(exponent > 0, normal, denormal)) | (elements & 128) << 8
    return torch.from_numpy(bits.astype(np.uint16).view(np.int16)).view(torch.bfloat16)


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    actual_bits, expected_bits = (x.float().view(torch.int32) for x in (actual, expected))
    wrong = actual_bits != expected_bits
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {wrong.numel()} differ: {actual[wrong][:4]}, not {expected[wrong][:4]}"
    )


def cases(*groups: str) -> list[str]:
    return [name for name in VECTORS.files if name.split("/")[0] in groups and not name.endswith("/input")]


@pytest.mark.parametrize("name", cases("host"))
def test_host_round_equals_recorded_ttnn_round_trip(name: str) -> None:
    """host_round gives the bits that ttnn's host conversion gave."""
    _, kind, format_name = name.split("/")
    assert_same_bits(host_round(recorded(f"host/{kind}/input"), FORMATS[format_name]), recorded(name))


@pytest.mark.parametrize("name", cases("pack", "precise"))
def test_rounding_equals_recorded_packer(name: str) -> None:
    """pack_round is the simulated packer's default path and typecast_round its precise path, from either Dest."""
    path, kind, dest, format_name = name.split("/")
    x = recorded(f"pack/{kind}/input")
    if dest == "bf16":
        x = (x.view(torch.int32) >> 16).to(torch.int16).view(torch.bfloat16)
    precise = path == "precise"
    assert_same_bits(pack_round(x, FORMATS[format_name], precise=precise), recorded(name))
    if precise and format_name == "bfp8":
        assert_same_bits(typecast_round(x, FORMATS[format_name]), recorded(name))


@pytest.mark.parametrize("name", ["bf16", "bfp8", "bfp4", "fp32_tf32", "fp32_bf16"])
def test_unpack_equals_recorded_unpacker(name: str) -> None:
    """unpack gives the Src words of the simulated unpacker, with wrapped exponents and -Inf for -0 of block floats."""
    l1, source = VECTORS[f"unpack/{name}/l1"], VECTORS[f"unpack/{name}/src"]
    format_name = name[:4]
    if format_name in ("bfp8", "bfp4"):
        x = block_float_values(l1, format_name)
    else:
        x = torch.from_numpy(l1.view(np.int16 if name == "bf16" else np.float32)).view(64, 16)
        x = x.view(torch.bfloat16) if name == "bf16" else x
    unpacked = unpack(x, FORMATS[format_name], fp32_dest=name == "fp32_tf32")
    assert_same_bits(unpacked, torch.from_numpy(source.view(np.float32)))


@pytest.mark.parametrize("format_name", ["fp32", "bf16"])
def test_l1_accumulation_equals_recorded_packer(format_name: str) -> None:
    """l1_accumulate adds as the simulated packer does in L1, denormals, Inf and NaN included."""
    dest = torch.from_numpy(VECTORS["l1acc/new"].view(np.float32))
    if format_name == "fp32":
        stored = torch.from_numpy(VECTORS["l1acc/old"].view(np.float32))
    else:
        stored = torch.from_numpy(VECTORS["l1acc/old_bf16"].view(np.int16)).view(torch.bfloat16)
    total = l1_accumulate(stored, dest, FORMATS[format_name])
    words = VECTORS[f"l1acc/out_{format_name}"]
    expected = words if format_name == "fp32" else words.astype(np.uint32) << 16
    assert_same_bits(total, torch.from_numpy(expected.view(np.float32)))


@pytest.mark.parametrize("dtype", [DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B])
@pytest.mark.parametrize("rounding", [host_round, pack_round, typecast_round])
def test_rounding_is_idempotent(rounding: Callable[[Tensor, DataType], Tensor], dtype: DataType) -> None:
    """What a format holds is not changed by rounding to it again, whichever way."""
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(3))
    once = rounding(x * 2.0 ** torch.arange(-32, 32), dtype)
    for again in (host_round, pack_round, typecast_round):
        assert_same_bits(again(once, dtype), once)


@pytest.mark.parametrize("dtype", [DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B])
@pytest.mark.parametrize("rounding", [host_round, pack_round, typecast_round])
def test_rounding_is_odd_and_monotonic(
    rounding: Callable[[Tensor, DataType], Tensor], dtype: DataType
) -> None:
    """-x rounds to minus what x rounds to, and of two numbers of a block the larger does not round to the smaller."""
    x = (
        torch.randn(256, 64, generator=torch.Generator().manual_seed(4))
        .unflatten(1, (4, 16))
        .sort()
        .values.flatten(1)
    )
    rounded = rounding(x, dtype).float()
    assert torch.equal(rounding(-x, dtype).float(), -rounded)
    assert (rounded.unflatten(1, (4, 16)).diff() >= 0).all()


@pytest.mark.parametrize("case", sorted({name.split("/")[1] for name in cases("typecast")}))
def test_typecast_round_equals_recorded_typecast(case: str) -> None:
    """typecast_round gives the bits that ttnn.typecast gave on the simulator."""
    source, target = (name.split("/")[2] for name in VECTORS.files if f"/{case}/" in name)
    x = host_round(recorded(f"typecast/{case}/{source}"), FORMATS[source])
    assert_same_bits(typecast_round(x, FORMATS[target]), recorded(f"typecast/{case}/{target}"))


def test_host_round_equals_the_real_ttnn(real_ttnn: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    """host_round gives the real ttnn's bits for every kind of number, from float32 and bfloat16."""
    random = torch.Generator().manual_seed(7)

    def patterns(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (256, 256), generator=random).to(torch.int32).view(torch.float32)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    inputs = {
        "normal": normal(64, 96),
        "mixed exponents": normal(128, 96) * 2.0 ** torch.randint(-30, 30, (128, 96), generator=random),
        "close exponents": normal(256, 96) * 2.0 ** torch.randint(-4, 4, (256, 96), generator=random),
        "rows of any scale": normal(256, 96) * 2.0 ** torch.randint(-140, 127, (256, 1), generator=random),
        "any bits": patterns(-(2**31), 2**31),
        "tiny": patterns(0, 0x0F000000),
        "denormal": patterns(0, 0x01000000),
        "huge": patterns(0x7D000000, 0x7F800000),
        "inf, nan and huge": patterns(0x7E000000, 0x7FFFFFFF) * torch.sign(normal(256, 256)),
        "ties": ((patterns(-(2**31), 2**31).view(torch.int32) & 0x03FFC000) | 0x3C000000).view(torch.float32),
        "minus zero": -torch.zeros(32, 32),
        "ragged": normal(2, 3, 33, 17),
    }
    inputs |= {f"{name}, bfloat16": x.bfloat16() for name, x in inputs.items()}
    outputs = real_ttnn(
        "for name, x in inputs.items():\n"
        "    for dtype in ('BFLOAT16', 'BFLOAT8_B', 'BFLOAT4_B', 'FLOAT32'):\n"
        "        stored = ttnn.from_torch(x, dtype=getattr(ttnn.DataType, dtype), layout=ttnn.TILE_LAYOUT)\n"
        "        outputs[name, dtype] = ttnn.to_torch(stored)\n",
        inputs,
    )
    assert len(outputs) == 4 * len(inputs)
    for (name, dtype), expected in outputs.items():
        assert_same_bits(host_round(inputs[name], DataType[dtype]), expected)


def test_host_round_wraps_integers_as_the_real_ttnn(
    real_ttnn: Callable[[str, dict[str, Any]], dict[str, Any]],
) -> None:
    """Integers beyond the target's range wrap as in ttnn, and floats in range are truncated."""
    inputs = {
        "int32": torch.tensor([[0, 1, -1, 2**31 - 1, -(2**31), 65535, 65536, 70000, 300]], dtype=torch.int32),
        "int64": torch.tensor([[0, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**33 + 5]]),
        "float32": torch.tensor([[0.0, 1.5, 2.7, 200.9, 255.0, -0.5]]),
    }
    outputs = real_ttnn(
        "for name, x in inputs.items():\n"
        "    for dtype in ('UINT32', 'INT32', 'UINT16', 'UINT8'):\n"
        "        stored = ttnn.from_torch(x, dtype=getattr(ttnn.DataType, dtype), layout=ttnn.TILE_LAYOUT)\n"
        "        outputs[name, dtype] = ttnn.to_torch(stored).to(torch.int64)\n",
        inputs,
    )
    for (name, dtype), expected in outputs.items():
        stored = host_round(inputs[name], DataType[dtype])
        assert stored.dtype == storage_dtype(DataType[dtype])
        assert stored.long().tolist() == expected.tolist(), (name, dtype)


def test_float_that_does_not_fit_an_integer_is_refused() -> None:
    """A float outside the integer type's range, or NaN, raises one line with the value and the range."""
    with pytest.raises(ValueError, match=r"^70000 does not fit UINT16 \(0 to 65535\)$"):
        host_round(torch.tensor([1.0, 70000.0]), DataType.UINT16)
    with pytest.raises(ValueError, match="nan does not fit UINT32"):
        host_round(torch.tensor([torch.nan]), DataType.UINT32)


def test_packing_to_an_integer_is_refused() -> None:
    """The packer's rounding is of floats: an integer format raises one line that names it."""
    for x in (torch.ones(16), torch.ones(16).bfloat16()):
        with pytest.raises(ValueError, match="to UINT32: it is no float format"):
            pack_round(x, DataType.UINT32)


@pytest.mark.parametrize("dtype", list(DataType))
def test_rounding_twice_changes_nothing(dtype: DataType) -> None:
    """What a format holds, it holds: host rounding is idempotent and keeps the shape."""
    once = host_round(torch.arange(3 * 5 * 40).reshape(3, 5, 40) % 100, dtype)
    assert once.shape == (3, 5, 40)
    assert once.dtype == storage_dtype(dtype)
    assert torch.equal(host_round(once, dtype), once)


@pytest.mark.parametrize("rounding", [host_round, pack_round, typecast_round])
@pytest.mark.parametrize(
    "dtype", [DataType.BFLOAT16, DataType.BFLOAT8_B, DataType.BFLOAT4_B, DataType.FLOAT32]
)
def test_input_is_left_alone(rounding: Callable[[Tensor, DataType], Tensor], dtype: DataType) -> None:
    """No rounding writes to its input, whatever its dtype and strides."""
    for x in (
        torch.randn(32, 64),
        torch.randn(32, 64).bfloat16(),
        torch.randn(64, 32).t(),
        torch.zeros(0, 32),
    ):
        before = x.clone()
        result = rounding(x, dtype)
        assert result.shape == x.shape
        assert torch.equal(x, before)
        assert torch.equal(result, rounding(x.contiguous(), dtype))


def test_three_ways_from_bf16_to_bfp8_differ() -> None:
    """Half to even, half away once, and half away twice part at half and at a quarter of a unit."""
    unit = 1 / 32  # in a block whose largest value is 2
    for value, expected in ((1 + unit / 2, [32, 33, 33]), (1 + unit / 4, [32, 32, 33])):
        block = torch.tensor([2.0, value] + [0.0] * 14).bfloat16()
        roundings = (host_round, typecast_round, pack_round)
        assert [float(f(block, DataType.BFLOAT8_B)[1]) / unit for f in roundings] == expected


@pytest.mark.parametrize(
    ("source", "dtype", "limit_ms"),
    [(torch.float32, DataType.BFLOAT16, 5), (torch.bfloat16, DataType.BFLOAT8_B, 20)],
)
def test_packing_an_activation_is_fast(source: torch.dtype, dtype: DataType, limit_ms: float) -> None:
    """Packing [1024, 1536] on one core takes less than about ten times the CPU time of an idle machine."""
    x, threads = torch.randn(1024, 1536).to(source), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fastest = min(cpu_seconds(lambda: pack_round(x, dtype)) for _ in range(5))
    finally:
        torch.set_num_threads(threads)
    assert fastest * 1e3 < limit_ms


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start
