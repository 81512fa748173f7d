"""Device memory: where every buffer lies in the DRAM and L1 banks of one Wormhole N150, and when there is no room.

Banks of a kind are in lockstep, as in ttnn: a buffer has one address, valid and taken in all of them. DRAM is filled from
the bottom, L1 from the top, each into the first hole that fits.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from harness.emulator.spec.types import BufferType

# As ttnn 0.81.1 reports them (`get_memory_view`, `buffer_address`) for an N150: 1 GiB DRAM channels and 1,464 KiB of L1
# less what firmware and kernels keep at the bottom; 64 worker cores remain beside fast dispatch.
DRAM_BANKS = 12
DRAM_BASE = 1_048_640
DRAM_BANK_SIZE = (1 << 30) - DRAM_BASE
L1_BANKS = 64
L1_BASE = 105_824
L1_BANK_SIZE = 1_499_136 - L1_BASE

# Bytes a page is padded to; a buffer's share of a bank is a multiple of 32 in both kinds.
DRAM_PAGE_ALIGNMENT = 32
L1_PAGE_ALIGNMENT = 16
_BLOCK_ALIGNMENT = 32


class OutOfMemoryError(RuntimeError):
    """No free block is large enough."""


class UseAfterFreeError(RuntimeError):
    """A buffer was used, or freed again, after it was freed."""


@dataclass(slots=True, eq=False)
class Buffer:
    """A piece of memory: `size` bytes in all, `size_per_bank` bytes at `address` of each bank.

    `origin`: the op and line that made it, noted where a trace may overwrite it.
    """

    address: int
    size: int
    size_per_bank: int
    buffer_type: BufferType
    freed: bool = False
    origin: str = ""

    def require_live(self, action: str) -> None:
        """Raise UseAfterFreeError if this buffer was freed; `action` says what was about to be done with it."""
        if self.freed:
            raise UseAfterFreeError(
                f"{action}: the {self.buffer_type.name} buffer of {self.size} B at address {self.address} was freed before"
            )


@dataclass(frozen=True)
class Usage:
    """How full the banks of one kind are, in bytes per bank."""

    num_banks: int
    bank_size: int
    allocated: int
    largest_free: int

    @property
    def free(self) -> int:
        return self.bank_size - self.allocated


class Allocator:
    """DRAM and L1 of one device; `l1_banks` is the number of worker cores, `trace_region` DRAM kept for traces, in bytes."""

    def __init__(self, l1_banks: int = L1_BANKS, trace_region: int = 0) -> None:
        dram = DRAM_BANK_SIZE - _align(-(-trace_region // DRAM_BANKS), _BLOCK_ALIGNMENT)
        self._banks = {
            BufferType.DRAM: _Banks(DRAM_BANKS, DRAM_BASE, dram, DRAM_PAGE_ALIGNMENT, from_top=False),
            BufferType.L1: _Banks(l1_banks, L1_BASE, L1_BANK_SIZE, L1_PAGE_ALIGNMENT, from_top=True),
        }
        # The garbage collector may call `free` in the middle of anything, so `free` only notes what `_settle` gives back.
        self._freed: list[Buffer] = []

    def allocate(
        self,
        buffer_type: BufferType,
        num_pages: int,
        page_size: int,
        *,
        shard_bytes_per_core: int | None = None,
    ) -> Buffer:
        """Place a buffer of `num_pages` pages of `page_size` bytes.

        Pages are dealt out over the banks round robin, or, with `shard_bytes_per_core`, every bank takes a shard of that
        many bytes (pages padded by the caller). Raises OutOfMemoryError, and ValueError for an empty buffer or a kind of
        memory that has no banks.
        """
        banks = self._banks.get(buffer_type)
        if banks is None:
            raise ValueError(f"cannot allocate {buffer_type.name}: the emulated device has DRAM and L1 only")
        if num_pages < 1 or page_size < 1:
            raise ValueError(f"cannot allocate {num_pages} pages of {page_size} B: both must be at least 1")
        if shard_bytes_per_core is None:
            share = -(-num_pages // banks.count) * _align(page_size, banks.page_alignment)
        else:
            share = shard_bytes_per_core
        share = _align(share, _BLOCK_ALIGNMENT)
        size = num_pages * page_size
        self._settle()
        address = banks.take(share)
        if address is None:
            usage = self.usage(buffer_type)
            raise OutOfMemoryError(
                f"out of {buffer_type.name}: {size} B over {usage.num_banks} banks need {share} B in each, where the "
                f"largest free block is {usage.largest_free} B ({usage.free} B free of {usage.bank_size} B)"
            )
        return Buffer(address, size, share, buffer_type)

    def free(self, buffer: Buffer) -> None:
        """Give `buffer` back; raises UseAfterFreeError if it was freed before."""
        if buffer.freed:
            buffer.require_live("free")
        buffer.freed = True
        self._freed.append(buffer)

    def usage(self, buffer_type: BufferType) -> Usage:
        """How full DRAM or L1 is."""
        self._settle()
        banks = self._banks[buffer_type]
        holes = [end - start for start, end in zip(banks.starts, banks.ends, strict=True)]
        return Usage(banks.count, banks.size, banks.size - sum(holes), max(holes, default=0))

    def _settle(self) -> None:
        while self._freed:
            buffer = self._freed.pop()
            self._banks[buffer.buffer_type].give(buffer.address, buffer.size_per_bank)


class _Banks:
    """Banks in lockstep. Holes are kept in filling order as sorted offsets from the end where filling begins."""

    __slots__ = ("base", "count", "ends", "from_top", "page_alignment", "size", "starts")

    def __init__(self, count: int, base: int, size: int, page_alignment: int, *, from_top: bool) -> None:
        self.count, self.base, self.size, self.page_alignment = count, base, size, page_alignment
        self.from_top = from_top
        self.starts, self.ends = [0], [size]

    def take(self, size: int) -> int | None:
        """Address of the first hole of `size` bytes, now taken; None if there is none."""
        starts, ends = self.starts, self.ends
        for i, start in enumerate(starts):
            rest = ends[i] - start - size
            if rest >= 0:
                if rest:
                    starts[i] = start + size
                else:
                    del starts[i], ends[i]
                return self.base + (self.size - start - size if self.from_top else start)
        return None

    def give(self, address: int, size: int) -> None:
        """Make `size` bytes at `address` a hole, joined with its neighbours."""
        start = address - self.base
        if self.from_top:
            start = self.size - start - size
        end = start + size
        starts, ends = self.starts, self.ends
        i = bisect_left(starts, start)
        after = i < len(starts) and starts[i] == end
        if i and ends[i - 1] == start:
            if after:
                ends[i - 1] = ends[i]
                del starts[i], ends[i]
            else:
                ends[i - 1] = end
        elif after:
            starts[i] = start
        else:
            starts.insert(i, start)
            ends.insert(i, end)


def _align(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
