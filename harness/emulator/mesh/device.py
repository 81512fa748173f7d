"""The emulated mesh: its grids, its allocator, and the plan of where a tensor of given spec goes in memory."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.emulator.call_sites import call_site
from harness.emulator.errors import DeviceError, TraceError, refuse
from harness.emulator.memory.allocator import Allocator, Buffer, OutOfMemoryError
from harness.emulator.mesh.queues import Queues
from harness.emulator.spec.geometry import CoreCoord, CoreGrid, MeshShape, Shape, round_up
from harness.emulator.spec.memory_config import MemoryConfig, shards_needed
from harness.emulator.spec.types import (
    TILE_SIZE,
    Arch,
    DataType,
    Layout,
    ShardOrientation,
    TensorMemoryLayout,
)

if TYPE_CHECKING:
    from harness.emulator.runtime.tensor import Storage
    from harness.emulator.runtime.trace import Trace

# What fills a tensor from the host's side: no program is compiled for it.
_WITHOUT_PROGRAM = frozenset(
    f"ttnn.{name}"
    for name in ("from_torch", "to_device", "allocate_tensor_on_device", "empty", "zeros", "ones", "full")
)
# Tile bytes: 1,024 elements, and 64 exponent bytes for the block formats (numerics.md, "Formats / tile").
TILE_BYTES = {
    DataType.BFLOAT16: 2048,
    DataType.FLOAT32: 4096,
    DataType.UINT32: 4096,
    DataType.INT32: 4096,
    DataType.UINT16: 2048,
    DataType.UINT8: 1024,
    DataType.BFLOAT8_B: 1088,
    DataType.BFLOAT4_B: 576,
}
BLOCK_FLOATS = (DataType.BFLOAT8_B, DataType.BFLOAT4_B)

_mesh_ids = itertools.count()
# What one allocation asks for: (num_pages, page_size, shard_bytes_per_core or None).
AllocationPlan = tuple[int, int, int | None]


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
        self.capturing: int | None = None  # the trace that is being captured
        self.traces: dict[int, Trace] = {}  # those that may be replayed
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
        made = [
            MeshDevice(
                submesh_shape, (self._grid.x, self._grid.y), self.trace_region_size, self._command_queues
            )
            for _ in range(self.num_devices // submesh_shape.mesh_size())
        ]
        self._submeshes += made
        return made

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
        self, op: str, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig
    ) -> Buffer:
        """A buffer for a tensor of this spec, on every device at one address; refuses a spec ttnn refuses."""
        key = (op, shape, dtype, layout, config)
        plan = self._plans.get(key)
        if plan is None:
            if not self.is_open:
                refuse(op, "the mesh device is closed")
            plan = _plan(op, shape, dtype, layout, config, self._grid)
            if op in _WITHOUT_PROGRAM:
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
            buffer.origin = f"{op} at {call_site()}"
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
    if shape.mesh_size() > 1:
        from harness.emulator.runtime.replicas import (
            expect_several,  # which knows tensors, which know this module
        )

        expect_several()
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


def padded_shape(shape: Shape, layout: Layout) -> Shape:
    """The shape in memory: TILE pads the last two dims to tiles, a vector to one row of them."""
    if not shape:
        return Shape((1,)) if layout is Layout.ROW_MAJOR else Shape((TILE_SIZE, TILE_SIZE))
    if layout is Layout.ROW_MAJOR:
        return shape
    if len(shape) == 1:
        return Shape((TILE_SIZE, round_up(shape[0])))
    return Shape((*shape[:-2], round_up(shape[-2]), round_up(shape[-1])))


def _plan(
    op: str, shape: Shape, dtype: DataType, layout: Layout, config: MemoryConfig, grid: CoreCoord
) -> AllocationPlan:
    if layout is Layout.TILE:
        height = round_up(math.prod(shape[:-2]) * round_up(shape[-2])) if len(shape) > 1 else TILE_SIZE
        width = round_up(shape[-1]) if shape else TILE_SIZE
        page, pages = TILE_BYTES[dtype], (height // TILE_SIZE) * (width // TILE_SIZE)
    else:
        if dtype in BLOCK_FLOATS:
            refuse(op, f"{dtype} needs TILE layout")
        height, width = math.prod(shape[:-1]), (shape[-1] if shape else 1)
        page, pages = width * TILE_BYTES[dtype] // (TILE_SIZE * TILE_SIZE), height
    if not pages or not page:
        refuse(op, f"the emulator does not model an empty tensor, of shape {list(shape)}")
    if not config.sharded:
        return pages, page, None
    return _sharded_plan(op, config, dtype, layout, height, width, grid)


def _sharded_plan(
    op: str, config: MemoryConfig, dtype: DataType, layout: Layout, height: int, width: int, grid: CoreCoord
) -> AllocationPlan:
    spec = config.shard_spec
    if spec is None:
        refuse(op, f"{config.memory_layout} memory config has no shard spec")
    shard_height, shard_width = spec.shape
    if layout is Layout.TILE and (shard_height % TILE_SIZE or shard_width % TILE_SIZE):
        refuse(
            op,
            f"shard shape {spec.shape} is not a multiple of the {TILE_SIZE}x{TILE_SIZE} tile in TILE layout",
        )
    end = spec.grid.bounding_box().end
    if config.buffer_type.name == "L1" and (end.x >= grid.x or end.y >= grid.y):
        refuse(op, f"shard grid {spec.grid} reaches outside the device's {grid.x}x{grid.y} worker grid")
    if config.buffer_type.name == "DRAM" and end.y:
        refuse(op, f"shard grid {spec.grid} in DRAM must lie on row 0: its banks are one row")
    down, across = -(-height // shard_height), -(-width // shard_width)
    if layout is Layout.ROW_MAJOR and width % shard_width:
        refuse(op, f"the emulator does not model rows of {width} in shards of {shard_width}")
    if config.memory_layout is TensorMemoryLayout.BLOCK_SHARDED:
        sides = end.y + 1 - spec.grid.bounding_box().start.y, end.x + 1 - spec.grid.bounding_box().start.x
        rows, columns = sides if spec.orientation is ShardOrientation.ROW_MAJOR else sides[::-1]
        if down > rows or across > columns:
            refuse(
                op,
                f"{down}x{across} blocks of {spec.shape} do not lie on {rows}x{columns} cores, {spec.grid}",
            )
    if config.memory_layout is TensorMemoryLayout.HEIGHT_SHARDED and shard_width != width:
        refuse(op, f"height-sharded shard width {shard_width} must equal the tensor's padded width {width}")
    if config.memory_layout is TensorMemoryLayout.WIDTH_SHARDED and shard_height != height:
        refuse(
            op, f"width-sharded shard height {shard_height} must equal the tensor's padded height {height}"
        )
    if shards_needed(config, height, width) > spec.num_cores():
        refuse(
            op,
            f"{down * across} shards of {spec.shape} cover a tensor of {height}x{width}, "
            f"but the shard grid {spec.grid} has {spec.num_cores()} cores",
        )
    shard_bytes = shard_height * shard_width * TILE_BYTES[dtype] // (TILE_SIZE * TILE_SIZE)
    return down * across, shard_bytes, shard_bytes
