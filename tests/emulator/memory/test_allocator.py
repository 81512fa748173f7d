from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.emulator.memory import allocator as memory
from harness.emulator.memory.allocator import Allocator, Buffer, OutOfMemoryError, UseAfterFreeError
from harness.emulator.spec.types import BufferType

KINDS = [BufferType.DRAM, BufferType.L1]
BANKS = {BufferType.DRAM: memory.DRAM_BANKS, BufferType.L1: memory.L1_BANKS}
RECORDED = np.load(Path(__file__).parents[1] / "data" / "allocations.npz")


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_are_those_ttnn_gave(kind: BufferType) -> None:
    """A recorded sequence of allocations and frees gets ttnn's address every time."""
    allocator, live = Allocator(), dict[int, Buffer]()
    for number, per_bank, address in RECORDED[kind.name].tolist():
        if per_bank:
            live[number] = allocator.allocate(kind, BANKS[kind], per_bank)
            assert live[number].address == address
        else:
            allocator.free(live.pop(number))


def test_banks_and_addresses_are_the_real_ttnns(
    real_ttnn: Callable[[str, dict[str, Any]], dict[str, Any]],
) -> None:
    """Banks, sizes, alignment and the share of a bank are what the real ttnn says for an N150."""
    widths = [2, 8, 9, 17, 24, 64, 1024]  # bfloat16 elements of a row-major page
    outputs = real_ttnn(
        "device = ttnn.open_device(device_id=0)\n"
        "for kind in ('DRAM', 'L1'):\n"
        "    buffer_type = getattr(ttnn.BufferType, kind)\n"
        "    config = ttnn.MemoryConfig(ttnn.TensorMemoryLayout.INTERLEAVED, buffer_type)\n"
        "    view = ttnn.get_memory_view(device, buffer_type)\n"
        "    rows, kept = [[view.num_banks, view.total_bytes_per_bank]], []\n"
        "    for pages in (1, 195):\n"
        "        for width in inputs['widths']:\n"
        "            shape = ttnn.Shape([pages, width])\n"
        "            kept.append(ttnn.allocate_tensor_on_device(\n"
        "                shape, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, device, config))\n"
        "            view = ttnn.get_memory_view(device, buffer_type)\n"
        "            rows.append([kept[-1].buffer_address(), view.total_bytes_allocated_per_bank])\n"
        "    outputs[kind] = rows\n"
        "    del kept\n"
        "ttnn.close_device(device)\n",
        {"widths": widths},
    )
    for kind in KINDS:
        allocator = Allocator()
        usage = allocator.usage(kind)
        rows = [[usage.num_banks, usage.bank_size]]
        for pages in (1, 195):
            for width in widths:
                buffer = allocator.allocate(kind, pages, 2 * width)
                rows.append([buffer.address, allocator.usage(kind).allocated])
        assert rows == outputs[kind.name]


@pytest.mark.parametrize("kind", KINDS)
def test_random_use_agrees_with_a_plain_model(kind: BufferType) -> None:
    """First fit, splitting and joining agree with a byte-by-byte model of one bank."""
    unit, choose = 32, random.Random(3)
    usage = Allocator().usage(kind)
    size = usage.bank_size // unit
    base = memory.DRAM_BASE if kind == BufferType.DRAM else memory.L1_BASE
    window = 400  # units of the bank the model follows, from the end where filling begins
    taken = bytearray(window)
    allocator, live = Allocator(), list[tuple[Buffer, int, int]]()
    for _ in range(3000):
        if live and choose.random() < 0.5:
            buffer, start, length = live.pop(choose.randrange(len(live)))
            allocator.free(buffer)
            taken[start : start + length] = bytes(length)
        else:
            length = choose.randint(1, 12)
            start = taken.find(bytes(length))
            if start < 0:
                continue
            buffer = allocator.allocate(kind, BANKS[kind], unit * length)
            taken[start : start + length] = b"\1" * length
            live.append((buffer, start, length))
            expected = start if kind == BufferType.DRAM else size - start - length
            assert buffer.address == base + unit * expected
    assert allocator.usage(kind).allocated == unit * sum(taken)
    for buffer, _, _ in live:
        allocator.free(buffer)
    assert allocator.usage(kind) == usage


def test_interleaved_pages_are_dealt_out_and_a_shard_is_taken_whole() -> None:
    """13 pages over 12 banks take two pages in each; a shard takes its own size."""
    allocator = Allocator()
    assert allocator.allocate(BufferType.DRAM, 13, 1088).size_per_bank == 2 * 1088
    sharded = allocator.allocate(BufferType.L1, 32, 2048, shard_bytes_per_core=4 * 2048)
    assert (sharded.size, sharded.size_per_bank) == (32 * 2048, 4 * 2048)


@pytest.mark.parametrize(
    ("kind", "pages", "page_size", "share"),
    [
        (BufferType.L1, 1, 4, 32),
        (BufferType.L1, 195, 4, 64),
        (BufferType.L1, 195, 18, 128),
        (BufferType.L1, 195, 34, 192),
        (BufferType.DRAM, 1, 34, 64),
    ],
)
def test_small_pages_are_padded_as_ttnn_was_seen_to(
    kind: BufferType, pages: int, page_size: int, share: int
) -> None:
    """Pages are padded to 16 B in L1 and 32 B in DRAM, and the share of a bank to 32 B."""
    assert Allocator().allocate(kind, pages, page_size).size_per_bank == share


def test_overflow_of_l1_names_what_is_missing() -> None:
    """An L1 overflow is one line with the size, the banks, the share of each, the largest free block and the bank."""
    allocator = Allocator()
    kept = [allocator.allocate(BufferType.L1, 64, 600_000) for _ in range(2)]
    allocator.free(kept[0])
    with pytest.raises(OutOfMemoryError) as error:
        allocator.allocate(BufferType.L1, 128, 320_000)
    assert str(error.value) == (
        "out of L1: 40960000 B over 64 banks need 640000 B in each, where the largest free block is 600000 B "
        "(793312 B free of 1393312 B)"
    )
    assert allocator.allocate(BufferType.L1, 64, 600_000).address == kept[0].address


def test_overflow_of_dram() -> None:
    """DRAM is full after its last byte, and a refused request takes nothing."""
    allocator = Allocator()
    whole = allocator.allocate(BufferType.DRAM, 12, memory.DRAM_BANK_SIZE)
    with pytest.raises(OutOfMemoryError, match="out of DRAM: 1 B over 12 banks need 32 B in each"):
        allocator.allocate(BufferType.DRAM, 1, 1)
    allocator.free(whole)
    assert allocator.usage(BufferType.DRAM).allocated == 0


def test_freeing_twice_is_refused() -> None:
    """The second free of a buffer raises and names it, and does not give its memory away twice."""
    allocator = Allocator()
    buffer = allocator.allocate(BufferType.DRAM, 1, 2048)
    allocator.free(buffer)
    again = allocator.allocate(BufferType.DRAM, 1, 2048)
    with pytest.raises(
        UseAfterFreeError, match="free: the DRAM buffer of 2048 B at address 1048640 was freed before"
    ):
        allocator.free(buffer)
    assert allocator.allocate(BufferType.DRAM, 1, 2048).address != again.address


def test_using_a_freed_buffer_is_refused() -> None:
    """A live buffer passes, a freed one raises with the action in its message."""
    allocator = Allocator()
    buffer = allocator.allocate(BufferType.L1, 1, 2048)
    buffer.require_live("matmul")
    allocator.free(buffer)
    with pytest.raises(UseAfterFreeError, match=r"^matmul: the L1 buffer of 2048 B"):
        buffer.require_live("matmul")


@pytest.mark.parametrize(
    ("kind", "pages", "page_size", "message"),
    [
        (BufferType.DRAM, 0, 2048, "cannot allocate 0 pages of 2048 B"),
        (BufferType.TRACE, 1, 2048, "cannot allocate TRACE"),
    ],
)
def test_bad_requests_are_refused(kind: BufferType, pages: int, page_size: int, message: str) -> None:
    """An empty buffer and a kind of memory without banks raise one clear line."""
    with pytest.raises(ValueError, match=message):
        Allocator().allocate(kind, pages, page_size)


@pytest.mark.parametrize("kind", KINDS)
def test_allocating_is_fast(kind: BufferType) -> None:
    """Allocating and freeing beside 100 holes takes under 50 microseconds of CPU time a pair (about 5 on an idle core)."""
    allocator = Allocator()
    for buffer in [allocator.allocate(kind, 64, 1024) for _ in range(200)][::2]:
        allocator.free(buffer)
    start = time.thread_time()
    for _ in range(1000):
        allocator.free(allocator.allocate(kind, 300, 2048))
    assert (time.thread_time() - start) / 1000 < 50e-6
