"""The emulator's mesh for values alone: the real ttnn has the memory, so nothing is allocated here and no program compiled.

The emulator's ops and traces run on it as on their own. Where a trace may overwrite memory the buffers have the real addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.emulator.memory.allocator import Buffer, Usage
from harness.emulator.mesh.device import MeshDevice
from harness.emulator.spec.geometry import MeshShape, Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import BufferType, DataType, Layout
from harness.ttnn_calls.call_sites import calling_line

QUEUES = 2  # the real ttnn refuses one that the mesh was not opened with


@dataclass(frozen=True)
class Place:
    """Where the real ttnn has put a tensor that an op made: bytes from `address` in each bank."""

    shape: tuple[int, ...]
    dtype: DataType
    buffer_type: BufferType
    address: int
    size_per_bank: int


class _RealMemory:
    """Answers the emulator's questions about memory with what the real ttnn had free before the op."""

    def __init__(self, free_l1: Callable[[], int | None]) -> None:
        self._free_l1 = free_l1

    def usage(self, buffer_type: BufferType) -> Usage:
        """Only the largest free block is known, of L1: no op asks for more. Raises LookupError where it was not looked up."""
        free = self._free_l1()
        if free is None:
            raise LookupError("how much of L1 was free before this op was not looked up")
        return Usage(num_banks=0, bank_size=0, allocated=0, largest_free=free)

    def free(self, buffer: Buffer) -> None:
        """The real ttnn frees."""


class ValuesMesh(MeshDevice):
    """A mesh of the emulator's without memory. `free_l1`: the largest free block of L1, in bytes, when it is asked for."""

    def __init__(
        self, shape: tuple[int, int], grid: tuple[int, int], free_l1: Callable[[], int | None]
    ) -> None:
        super().__init__(MeshShape(*shape), grid, trace_region_size=1, num_command_queues=QUEUES)
        # No Allocator, for nothing is allocated here: it answers and frees as one does.
        self.allocator = _RealMemory(free_l1)  # type: ignore[assignment]
        self.places: list[Place] = []  # of what the running op made, while a trace may be concerned

    @property
    def concerns_traces(self) -> bool:
        """Whether it matters where a new tensor lies."""
        return self.capturing is not None or bool(self.traces)

    def allocate(
        self,
        op: str,
        shape: Shape,
        dtype: DataType,
        layout: Layout,
        config: MemoryConfig,
        compiles: bool = True,
    ) -> Buffer:
        """A buffer of no size, or one where the real tensor of this spec lies."""
        for place in self.places:
            if place.shape == shape and place.dtype is dtype and place.buffer_type is config.buffer_type:
                self.places.remove(place)
                buffer = Buffer(place.address, place.size_per_bank, place.size_per_bank, place.buffer_type)
                buffer.origin = f"{op} at {calling_line()}"
                return buffer
        return Buffer(0, 0, 0, config.buffer_type)

    def require_program(
        self, op: str, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig
    ) -> None:
        """The real ttnn counts programs and refuses to compile them."""
