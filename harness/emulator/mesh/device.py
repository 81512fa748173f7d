"""The emulated mesh: its grids, its allocator and its programs; and the device memory of a tensor on it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from harness.emulator.errors import DeviceError, TraceError, refuse
from harness.emulator.memory.allocator import Allocator, Buffer, OutOfMemoryError
from harness.emulator.memory.plan import AllocationPlan
from harness.emulator.memory.plan import plan as plan_of
from harness.emulator.mesh.queues import Queues, Uses
from harness.emulator.spec.geometry import CoreCoord, CoreGrid, MeshShape, Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.types import Arch, DataType, Layout
from harness.ttnn_calls.call_sites import calling_line

_mesh_ids = itertools.count()
storage_ids = itertools.count()


# Whether a mesh of more than one device was ever opened: until then no tensor lies on several.
several_opened = False


def _note_devices(count: int) -> None:
    global several_opened
    several_opened = several_opened or count > 1


class Replayable(Protocol):
    """A trace that was captured on a device."""

    def run(self) -> None: ...

    def enqueue(self, queue: int) -> None: ...


class MeshDevice:
    """A mesh of emulated Wormhole devices in lockstep: one allocator stands for all of them."""

    def __init__(
        self,
        shape: MeshShape,
        compute_grid: tuple[int, int] = (8, 8),
        trace_region_size: int = 0,
        num_command_queues: int = 1,
    ) -> None:
        self._id = next(_mesh_ids)
        self._submeshes: list[MeshDevice] = []
        self.shape = shape
        self.num_devices = shape.mesh_size()
        _note_devices(self.num_devices)
        self.trace_region_size = trace_region_size
        self.allocator = Allocator(compute_grid[0] * compute_grid[1], trace_region_size)
        self.is_open = True
        self._grid = CoreCoord(compute_grid)
        self.checked_programs: set[Any] = set()  # matmul programs found legal for their operands
        self._plans: dict[tuple[Any, ...], AllocationPlan] = {}
        self._in_place: set[tuple[Any, ...]] = set()  # programs that write to a tensor there is
        self._fillings = 0  # plans no program was compiled for
        self._misses_allowed = True
        self._command_queues = num_command_queues
        self.queues = Queues(num_command_queues)
        self.random_states: dict[
            tuple[int, CoreCoord], int
        ] = {}  # by device and core, see arithmetic/sfpu/prng.py
        self.capturing: int | None = None  # the trace that is being captured
        self.traces: dict[int, Replayable] = {}  # those that may be replayed
        # What was allocated since there are traces.
        self.newcomers: weakref.WeakSet[Storage] = weakref.WeakSet()

    def create_submeshes(self, submesh_shape: MeshShape) -> list[MeshDevice]:
        """This mesh cut into equal parts, row by row; each has memory and queues of its own, and closes with this one.

        ttnn lets both allocate in the same memory; here whoever holds tensors on the mesh itself is not seen by the parts.
        """
        if len(submesh_shape) != 2 or any(n % m for n, m in zip(self.shape, submesh_shape, strict=True)):
            raise DeviceError(
                f"ttnn.MeshDevice.create_submeshes: a {self._written(self.shape)} mesh does not divide into "
                f"{self._written(submesh_shape)} parts"
            )
        submeshes = [
            MeshDevice(
                submesh_shape, (self._grid.x, self._grid.y), self.trace_region_size, self._command_queues
            )
            for _ in range(self.num_devices // submesh_shape.mesh_size())
        ]
        self._submeshes += submeshes
        return submeshes

    def get_submeshes(self) -> list[MeshDevice]:
        return list(self._submeshes)

    def get_num_devices(self) -> int:
        return self.num_devices

    def get_device_ids(self) -> list[int]:
        return list(range(self.num_devices))

    def id(self) -> int:
        return self._id

    def arch(self) -> Arch:
        return Arch.WORMHOLE_B0

    def compute_with_storage_grid_size(self) -> CoreCoord:
        return self._grid

    @property
    def core_grid(self) -> CoreGrid:
        return CoreGrid(x=self._grid.x, y=self._grid.y)

    def dram_grid_size(self) -> CoreCoord:
        return CoreCoord(12, 1)

    def enable_program_cache(self) -> None:
        """Always on."""

    def num_program_cache_entries(self) -> int:
        """Programs compiled so far; here a program is an op and the spec of its result."""
        return len(self._plans) - self._fillings + len(self._in_place)

    def clear_program_cache(self) -> None:
        self._plans.clear()
        self._in_place.clear()
        self._fillings = 0

    def set_program_cache_misses_allowed(self, allowed: bool) -> None:
        """Whether a program that was not compiled before may be."""
        self._misses_allowed = allowed

    def allocate(
        self,
        op: str,
        shape: Shape,
        dtype: DataType,
        layout: Layout,
        config: MemoryConfig,
        compiles: bool = True,
    ) -> Buffer:
        """A buffer for a tensor of this spec, on every device at one address; refuses a spec ttnn refuses.

        `compiles`: whether the op runs a program, which is compiled at its first call.
        """
        key = (op, shape, dtype, layout, config)
        plan = self._plans.get(key)
        if plan is None:
            if not self.is_open:
                refuse(op, "the mesh device is closed")
            plan = plan_of(op, shape, dtype, layout, config, self._grid)
            if not compiles:
                self._fillings += 1
            else:
                self._require_miss_allowed(op)
            self._plans[key] = plan
        try:
            buffer = self.allocator.allocate(
                config.buffer_type, plan[0], plan[1], shard_bytes_per_core=plan[2]
            )
        except OutOfMemoryError as error:
            raise OutOfMemoryError(f"{op}: {error}") from None
        if self.traces:
            buffer.origin = f"{op} at {calling_line()}"
        return buffer

    def require_program(
        self, op: str, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig
    ) -> None:
        """Counts the program of an op that writes to a tensor of this spec in place."""
        key = (op, shape, dtype, layout, config)
        if key not in self._in_place:
            self._require_miss_allowed(op)
            self._in_place.add(key)

    def _require_miss_allowed(self, op: str) -> None:
        if self.capturing is not None:
            raise TraceError(
                f"{op}: its program would be compiled inside the capture of trace {self.capturing}; run the body once before"
            )
        if not self._misses_allowed:
            refuse(op, "program cache miss occurred, but cache misses are forbidden")

    def __repr__(self) -> str:
        return f"MeshDevice({self._written(self.shape)} grid, {self.num_devices} devices)"

    @staticmethod
    def _written(shape: MeshShape) -> str:
        return "x".join(map(str, shape))


class Storage:
    """Device memory of a tensor; `version` counts the writes to it after creation, `id` is never used again.

    `lost`: the buffer, and what overwrote it, of memory that a trace ran over; `buffer` is then None. `uses`: see queues.py.
    """

    __slots__ = ("__weakref__", "buffer", "device", "id", "lost", "uses", "version")

    def __init__(self, device: MeshDevice, buffer: Buffer) -> None:
        self.device = device
        self.buffer: Buffer | None = buffer
        self.lost: tuple[Buffer, str] | None = None
        self.uses: Uses | None = None
        self.version = 0
        self.id = next(storage_ids)
        if device.traces:
            device.newcomers.add(self)

    def free(self) -> None:
        buffer = self.buffer or (self.lost[0] if self.lost else None)
        self.buffer = self.lost = None
        if buffer is not None:
            self.device.allocator.free(buffer)

    def lose(self, how: str) -> None:
        """A trace wrote over this memory: until it is written as a whole, nobody may read it."""
        if self.buffer is not None:
            self.lost = self.buffer, how
            self.buffer = None

    def regain(self) -> None:
        """It was written as a whole."""
        if self.lost is not None:
            self.buffer = self.lost[0]
            self.lost = None

    __del__ = free


def open_mesh_device(
    mesh_shape: MeshShape | Sequence[int] | None = None,
    l1_small_size: int = 0,
    trace_region_size: int = 0,
    num_command_queues: int = 1,
    dispatch_core_config: Any = None,
    offset: Any = None,
    physical_device_ids: Sequence[int] = (),
    worker_l1_size: int = 0,
) -> MeshDevice:
    """Open a mesh of `mesh_shape` (default 1x1)."""
    shape = MeshShape(1, 1) if mesh_shape is None else MeshShape(mesh_shape)
    if len(shape) != 2 or min(shape) < 1:
        raise DeviceError(
            f"ttnn.open_mesh_device: mesh_shape {list(shape)} is not (rows, columns), each at least 1"
        )
    if num_command_queues not in (1, 2):
        raise DeviceError(
            f"ttnn.open_mesh_device: num_command_queues {num_command_queues}: a device has 1 or 2"
        )
    return MeshDevice(shape, trace_region_size=trace_region_size, num_command_queues=num_command_queues)


def open_device(*, device_id: int = 0, **options: Any) -> MeshDevice:
    """A mesh of one device."""
    return open_mesh_device(MeshShape(1, 1), **options)


def close_mesh_device(mesh_device: MeshDevice) -> None:
    for submesh in mesh_device.get_submeshes():
        close_mesh_device(submesh)
    mesh_device.is_open = False
    mesh_device.traces.clear()
    mesh_device.clear_program_cache()


def close_device(device: MeshDevice) -> None:
    close_mesh_device(device)
