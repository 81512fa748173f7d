"""The values beside the real ttnn's device buffers: tensors of the emulator, by the id of the buffer they stand for.

A buffer's id (`Tensor.buffer_unique_id()`) is shared by views, results written in place and conversions that change nothing, and
not used again. Of one buffer there is an emulator's tensor for each shape it is looked at in; all are views of the same values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from harness.emulator.arithmetic import formats
from harness.emulator.errors import DeviceError
from harness.emulator.mesh.device import Storage
from harness.emulator.runtime import execution
from harness.emulator.runtime.declarations import Kind, Op
from harness.emulator.runtime.execution import make_tensor, make_view, write
from harness.emulator.runtime.tensor import Shards, Tensor
from harness.emulator.spec.types import DataType
from harness.targets.shadow.conversion import Conversion, NotConvertible, Spec
from harness.targets.shadow.coverage import UNSEEN, Coverage, Source
from harness.targets.shadow.mesh import Place, ValuesMesh

# A sweep follows so many bytes put since the last one, or so many more buffers than twice those that were then left.
_SWEEP_BYTES = 256 << 20
_SWEEP_CELLS = 256
_FIRST = (0,)  # the devices of a mesh of one

# (mesh, kind of memory as its enum's value, address) of a buffer
Where = tuple[int, Any, int]


class View(NamedTuple):
    """A look at a buffer: the real spec, the devices, and the emulator's tensor."""

    spec: Any
    devices: tuple[int, ...]
    tensor: Tensor


class Cell:
    """The values of one buffer, in all the shapes it is looked at in."""

    __slots__ = ("source", "storage", "views", "where")

    def __init__(self, storage: Storage, source: Source, where: Where, view: View) -> None:
        self.storage, self.source, self.where, self.views = storage, source, where, [view]


class Values:
    """All buffers' values."""

    def __init__(self, ttnn: Any, coverage: Callable[[], Coverage]) -> None:
        self.ttnn, self._coverage = ttnn, coverage
        self.conversion = Conversion(ttnn, self._argument, self.mesh)
        self.arguments: dict[int, Tensor] = {}  # of the running call, by the id of the real tensor object
        self.cells: dict[int, Cell] = {}
        self.free_l1: int | None = (
            None  # bytes, the largest free block before the running op, where that matters
        )
        self._meshes: dict[int, tuple[Any, ValuesMesh]] = {}
        self._at: dict[Where, int] = {}  # the buffer there
        self._of_storage: dict[int, Cell] = {}  # by the storage's id
        self._since_sweep = 0
        self._left = 0  # buffers after the last sweep
        self._host_to_torch = ttnn.Tensor.to_torch  # as it is for host tensors

    # meshes

    def mesh(self, real: Any) -> ValuesMesh:
        """What stands for a real mesh, or part of one."""
        model = self._meshes.get(real.id())
        if model is None:
            rows, columns = tuple(real.shape)[-2:]
            grid = real.compute_with_storage_grid_size()
            mesh = ValuesMesh((rows, columns), (grid.x, grid.y), lambda: self.free_l1)
            model = self._meshes[real.id()] = (real, mesh)
        return model[1]

    def close(self, real: Any) -> None:
        """Forgets a mesh and what lies on it."""
        _, mesh = self._meshes.pop(real.id(), (None, None))
        for uid, cell in list(self.cells.items()):
            if cell.storage.device is mesh:
                self.forget(uid)

    # from the real tensor to its values

    def tensor(self, real: Any) -> Tensor:
        """The emulator's tensor for a real one. One whose values nobody has seen is unknown from now on.

        Raises DeviceError for memory that a trace has overwritten.
        """
        if not self.ttnn.is_tensor_storage_on_device(real):
            return Tensor(self.host_shards(real), *self.storable(real))
        cell = self.cells.get(real.buffer_unique_id())
        if cell is None:
            self._coverage().explain(UNSEEN, Source.NONE, "no op that was seen here made it")
            return self.put(real, self.unknown(real), Source.NONE)
        if cell.storage.lost is not None:
            raise DeviceError(f"ttnn.Tensor: tensor of shape {list(real.shape)}, {cell.storage.lost[1]}")
        spec, devices = real.spec, self._devices(real)
        for view in cell.views:
            if view.devices == devices and view.spec == spec:
                return view.tensor
        tensor = self._viewed(cell, self.storable(real), devices)
        if tensor is None:
            self._coverage().explain(UNSEEN, Source.NONE, "a view of another size or format")
            return Tensor(self.unknown(real) * len(devices), *self.storable(real), cell.storage)
        cell.views.append(View(spec, devices, tensor))
        return tensor

    def _argument(self, real: Any) -> Tensor:
        tensor = self.arguments.get(id(real))
        return self.tensor(real) if tensor is None else tensor

    def cell(self, real: Any) -> Cell | None:
        """What is known of a device tensor's buffer."""
        return self.cells.get(real.buffer_unique_id())

    def _viewed(self, cell: Cell, spec: Spec, devices: tuple[int, ...]) -> Tensor | None:
        """A buffer in another shape, or on some of its devices; None where it does not hold such values."""
        base = cell.views[0]
        if base.tensor.dtype is not spec.dtype or base.tensor.volume() != math.prod(spec.shape):
            return None
        places = [base.devices.index(device) for device in devices]

        def view(tensor: Tensor) -> Tensor:
            def compute() -> list[torch.Tensor]:
                views = {id(shard): shard.reshape(spec.shape) for shard in tensor.shards}
                return [views[id(tensor.shards[place])] for place in places]

            assert tensor.storage is not None
            return make_view(compute, *spec, tensor.storage)

        result: Tensor = run("ttnn.view", view, base.tensor)
        return result

    def host_shards(self, real: Any) -> Shards:
        """What a real host tensor holds: a shard for each device it is meant for; equal ones are one and the same."""
        dtype = formats.storage_dtype(self.storable(real).dtype)
        placements = real.tensor_topology().placements()
        replicated = all(type(one) is self.ttnn.PlacementReplicate for one in placements)
        shards: list[torch.Tensor] = []
        with torch.inference_mode(False):
            for part in self.ttnn.get_device_tensors(real):
                if shards and replicated:
                    shards.append(shards[0])
                    continue
                values = self._host_to_torch(part)
                if values.dtype in (torch.uint32, torch.uint16):
                    values = values.long()
                values = values.to(dtype).reshape(tuple(part.shape)).contiguous()
                same = next((one for one in shards if torch.equal(one, values)), None)
                shards.append(values.clone() if same is None else same)
        return Shards(shards)

    def storable(self, real: Any) -> Spec:
        """The spec to keep values under; FLOAT32 for a format that the emulator lacks, of which nothing is known."""
        try:
            return self.conversion.spec(real)
        except NotConvertible as error:
            self._coverage().explain(UNSEEN, Source.NONE, str(error))
            shape, layout = self.conversion.value(real.shape), self.conversion.member(real.layout)
            return Spec(shape, DataType.FLOAT32, layout, self.conversion.memory(real.memory_config()))

    def source(self, reals: Sequence[Any]) -> Source:
        """The weakest source among device tensors' values."""
        weakest = Source.EXACT
        for real in reals:
            cell = self.cells.get(real.buffer_unique_id())
            if cell is not None and cell.source < weakest:
                weakest = cell.source
        return weakest

    # from values to the real tensor

    def put(self, real: Any, shards: Sequence[torch.Tensor], source: Source) -> Tensor:
        """Values for a real tensor on a buffer of its own: one shard a device, or one for all."""
        spec = self.storable(real)
        mesh = self.mesh(real.device())
        mesh.places = list(self.places([real]))
        buffer = mesh.allocate("ttnn.Tensor", *spec)
        tensor = Tensor(_spread(shards, len(self._devices(real))), *spec, Storage(mesh, buffer))
        self.keep(real, tensor, source)
        return tensor

    def keep(self, real: Any, tensor: Tensor, source: Source) -> None:
        """An emulator's tensor with memory of its own stands for the real one's buffer from now on."""
        storage = tensor.storage
        assert storage is not None
        devices = self._devices(real)
        if len(tensor.shards) != len(devices):
            tensor.shards = _spread(tensor.shards, len(devices))
        uid, where = (
            real.buffer_unique_id(),
            (storage.device.id(), tensor.config.buffer_type.value, real.buffer_address()),
        )
        dead = self._at.get(where)
        if dead is not None and dead != uid:
            self.forget(dead)
        self._at[where] = uid
        cell = self.cells[uid] = Cell(storage, source, where, View(real.spec, devices, tensor))
        self._of_storage[storage.id] = cell
        self._since_sweep += tensor.shards[0].nbytes
        if self._since_sweep > _SWEEP_BYTES or len(self.cells) > 2 * self._left + _SWEEP_CELLS:
            self.sweep(real.device())

    def copy(self, tensor: Tensor, spec: Spec) -> Tensor:
        """The same values in memory of their own."""

        def copied(tensor: Tensor) -> Tensor:
            def compute() -> list[torch.Tensor]:
                copies = {id(s): s.reshape(spec.shape).clone() for s in tensor.shards}
                return [copies[id(s)] for s in tensor.shards]

            assert tensor.storage is not None
            return make_tensor("ttnn.clone", compute, *spec, tensor.storage.device)

        clone: Tensor = run("ttnn.clone", copied, tensor)
        return clone

    def look(self, real: Any, tensor: Tensor) -> None:
        """An emulator's tensor on the memory of a known buffer: one more look at it."""
        cell, spec, devices = self.cells[real.buffer_unique_id()], real.spec, self._devices(real)
        if not any(view.devices == devices and view.spec == spec for view in cell.views):
            cell.views.append(View(spec, devices, tensor))

    def overwrite(self, op: str, real: Any, values: Tensor, source: Source) -> None:
        """A real tensor's buffer holds other values now, of as many elements. All that look at it see them."""
        target = self.tensor(real)
        self.written(target)

        def fill(target: Tensor, values: Tensor) -> Tensor:
            def copy() -> None:
                for mine, new in zip(target.shards, _spread(values.shards, len(target.shards)), strict=True):
                    if mine.data_ptr() != new.data_ptr():
                        mine.copy_(new.reshape(mine.shape))

            return write(op, target, copy)

        run(op, fill, target, values)
        self.cells[real.buffer_unique_id()].source = source

    def of(self, tensor: Tensor) -> Cell | None:
        """The buffer that an emulator's tensor lies in."""
        return self._of_storage.get(tensor.storage.id) if tensor.storage is not None else None

    def written(self, target: Tensor) -> None:
        """To be called before an op writes to a tensor: its shards are its own then, and no other look at them is kept."""
        target.own()
        cell = self.of(target)
        if cell is not None:
            cell.views[:] = [view for view in cell.views if view.tensor is target] or cell.views

    def unknown(self, real: Any) -> list[torch.Tensor]:
        """Values of which nothing is known: NaN, or zero in integers."""
        return [unknown_shard(self.storable(real))]

    # the end of buffers

    def forget(self, uid: int) -> None:
        """A buffer is gone."""
        cell = self.cells.pop(uid, None)
        if cell is not None:
            cell.storage.free()
            self._of_storage.pop(cell.storage.id, None)
            if self._at.get(cell.where) == uid:
                del self._at[cell.where]

    def sweep(self, real: Any) -> None:
        """Forgets the buffers of a mesh that died with the last reference to them."""
        mesh = self.mesh(real).id()
        buffers = self.ttnn._ttnn.reports.get_buffers([real])
        live = {(mesh, self.conversion.member(one.buffer_type).value, one.address) for one in buffers}
        for uid, cell in list(self.cells.items()):
            if cell.where[0] == mesh and cell.where not in live:
                self.forget(uid)
        self._since_sweep, self._left = 0, len(self.cells)

    def places(self, reals: Sequence[Any]) -> Iterator[Place]:
        """Where the real ttnn has put new tensors, as far as their mesh has traces to mind."""
        for real in reals:
            if real.buffer_unique_id() in self.cells or not self.mesh(real.device()).concerns_traces:
                continue
            spec, address = self.storable(real), real.buffer_address()
            for one in self.ttnn._ttnn.reports.get_buffers([real.device()]):
                kind = self.conversion.member(one.buffer_type)
                if one.address == address and kind is spec.config.buffer_type:
                    yield Place(spec.shape, spec.dtype, kind, address, one.max_size_per_bank)
                    break

    def _devices(self, real: Any) -> tuple[int, ...]:
        """The devices of its mesh that a tensor lies on, row by row."""
        mesh = self.mesh(real.device())
        if mesh.num_devices == 1:
            return _FIRST
        return tuple(place[0] * mesh.shape[1] + place[1] for place in real.device_coords())


def run(name: str, function: Callable[..., Any], *args: Any, kind: Kind = Kind.BUFFER) -> Any:
    """Runs something of our own as the emulator runs its ops: at once, or taken down in a trace. It sees all devices.

    Of kind BUFFER it is on no queue.
    """
    return execution.in_force.call(Op(name, kind, (), True, function), args, {})


def unknown_shard(spec: Spec) -> torch.Tensor:
    """One device's worth of NaN, or of zero in integers."""
    dtype = formats.storage_dtype(spec.dtype)
    with torch.inference_mode(False):
        return torch.full(tuple(spec.shape), torch.nan if dtype.is_floating_point else 0, dtype=dtype)


def _spread(shards: Sequence[torch.Tensor], devices: int) -> Shards:
    """One for all devices, or one a device."""
    return Shards(shards) if len(shards) == devices else Shards(list(shards) * devices)
