"""Between host and device: what makes device tensors, reads them or ends them without being an op with values of its own.

A read gives a real host tensor that holds the values, so that composers, files and whatever else takes host tensors work on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from harness.emulator.runtime import races
from harness.emulator.runtime.tensor import Tensor
from harness.emulator.spec.tiles import BLOCK_FLOATS
from harness.emulator.spec.types import DataType
from harness.targets.shadow.calls import Calls
from harness.targets.shadow.coverage import Coverage, Source
from harness.targets.shadow.graphs import Graphs
from harness.targets.shadow.values import Values

# Methods of `ttnn.Tensor` that read a device tensor; each is given the host's copy of it.
READERS = (
    "to_torch",
    "to_torch_with_padded_shape",
    "to_list",
    "to_numpy",
    "item",
    "extract_shard",
    "__repr__",
)
_UNSIGNED = {DataType.UINT32: torch.uint32, DataType.UINT16: torch.uint16}


class Transfers:
    """Answers the calls that move tensors or end them. `install` puts it in place."""

    def __init__(self, values: Values, coverage: Callable[[], Coverage], graphs: Graphs) -> None:
        self.values, self._coverage, self._graphs = values, coverage, graphs
        self._ttnn = values.ttnn
        self._on_device = self._ttnn.is_tensor_storage_on_device
        self._construct = self._ttnn.Tensor
        self._to_device = self._ttnn._ttnn.operations.core.to_device
        self._real_cpu = self._ttnn.Tensor.cpu
        self._real: Callable[..., Any] = self._ttnn.decorators.FastOperation.__call__

    def install(self, calls: Calls) -> None:
        """Takes over the ops and the methods, and ttnn's own reading and writing of files."""
        calls.special |= {
            "ttnn.from_torch": self._from_torch,
            "ttnn.to_device": self._put_on_device,
            "ttnn.from_device": self._read,
            "ttnn.to_torch": self._to_torch,
            "ttnn.copy_host_to_device_tensor": self._copy_in,
            "ttnn.copy_host_to_device_tensor_partial": self._copy_part_in,
            "ttnn.copy_device_to_host_tensor": self._copy_out,
            "ttnn.allocate_tensor_on_device": self._allocate,
            "ttnn.deallocate": self._deallocate,
        }
        kind = self._ttnn.Tensor
        for name in READERS:
            setattr(kind, name, self._reading(getattr(kind, name)))
        kind.cpu = self._cpu(kind.cpu)
        kind.to = self._to(kind.to)
        kind.reshape = self._reshape(kind.reshape)
        kind.deallocate = self._ending(kind.deallocate)
        files = self._ttnn._ttnn.tensor
        files.load_tensor_flatbuffer = self._loading(files.load_tensor_flatbuffer)
        files.dump_tensor_flatbuffer = self._dumping(files.dump_tensor_flatbuffer)

    # from the device

    def read(self, real: Any) -> Any:
        """A device tensor's values as a real host tensor."""
        if not real.is_allocated():
            return self._real_cpu(real)  # which says so
        if self._graphs.capturing:
            self._real_cpu(real)  # which the graph is to show
        tensor = self.values.tensor(real)
        self._coverage().read(self.values.source([real]))
        return self.host(tensor, real.device().shape)

    def on_host(self, real: Any) -> Any:
        """A host tensor as it is, a device tensor's values."""
        return self.read(real) if self._on_device(real) else real

    def host(self, tensor: Tensor, mesh_shape: Any = None) -> Any:
        """A real host tensor with an emulator's values; FLOAT32 where a block float could not hold what is not finite."""
        ttnn = self._ttnn
        dtype = tensor.dtype
        if dtype in BLOCK_FLOATS and not all(bool(shard.isfinite().all()) for shard in set(tensor.shards)):
            dtype = DataType.FLOAT32
        tensors: dict[int, Any] = {}
        for shard in tensor.shards:
            if id(shard) not in tensors:
                values = shard.to(_UNSIGNED[dtype]) if dtype in _UNSIGNED else shard
                tensors[id(shard)] = self._construct(
                    tensor=values.contiguous(),
                    data_type=getattr(ttnn.DataType, dtype.name),
                    layout=getattr(ttnn.Layout, tensor.layout.name),
                )
        parts = [tensors[id(shard)] for shard in tensor.shards]
        return parts[0] if len(parts) == 1 else ttnn.from_host_shards(parts, mesh_shape)

    def _read(self, op: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._on_device(tensor):
            return self._real(op, tensor, *args, **kwargs)
        self._queued("ttnn.from_device", tensor, kwargs.get("queue_id", kwargs.get("cq_id")), writes=False)
        return self.read(tensor)

    def _to_torch(self, op: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if self._on_device(tensor):
            self._queued("ttnn.to_torch", tensor, kwargs.get("cq_id"), writes=False, blocking=True)
            tensor = self.read(tensor)
        return self._real(op, tensor, *args, **kwargs)

    def _copy_out(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        bound = _named(("device_tensor", "host_tensor"), args, kwargs)
        device, host = bound["device_tensor"], bound["host_tensor"]
        result = self._real(op, *args, **kwargs)
        parts = (self._ttnn.get_device_tensors(one) for one in (self.read(device), host))
        for source, target in zip(*parts, strict=True):
            source_bytes, target_bytes = (self._bytes(one) for one in (source, target))
            if len(source_bytes) == len(target_bytes):
                target_bytes.copy_(source_bytes)
            else:  # a block float that is not finite
                target_bytes.fill_(0xFF)
        return result

    def _bytes(self, host: Any) -> torch.Tensor:
        """What a real host tensor of one device holds, to be written to."""
        buffer = host.host_buffer().get_shard(self._ttnn.MeshCoordinate(0, 0))
        return torch.utils.dlpack.from_dlpack(buffer).view(torch.uint8)

    # to the device

    def _from_torch(self, op: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        device = kwargs.pop("device", None)
        if device is None or tensor is None:
            return self._real(op, tensor, *args, **kwargs)
        # Without the memory config: where that is sharded, ttnn's host rounds block floats twice (float32 to bfloat16 first) when
        # it makes a host tensor; the emulator, whose values these are to equal, rounds them once on the way to a device.
        memory, queue = kwargs.pop("memory_config", None), kwargs.pop("cq_id", None)
        if kwargs.get("spec") is not None:
            memory = kwargs["spec"].memory_config
        host = self._real(op, tensor, *args, **kwargs)
        return self.placed("ttnn.from_torch", host, device, memory, queue)

    def _put_on_device(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        queue = kwargs.pop("queue_id", kwargs.pop("cq_id", None))
        bound = _named(("tensor", "device", "memory_config"), args, kwargs)
        if self._on_device(bound["tensor"]):
            return self._real(op, *args, **kwargs)
        return self.placed(
            "ttnn.to_device", bound["tensor"], bound["device"], bound.get("memory_config"), queue
        )

    def placed(self, name: str, host: Any, device: Any, memory: Any = None, queue: Any = None) -> Any:
        """A real host tensor on the device, with its values."""
        placement = {} if memory is None else {"memory_config": memory}
        real = self._to_device(host, device, **placement)
        self.values.put(real, self.values.host_shards(host), Source.EXACT)
        self._queued(name, real, queue, writes=True)
        return real

    def _copy_in(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        bound = _named(("host_tensor", "device_tensor"), args, kwargs)
        queue = kwargs.get("cq_id", kwargs.get("queue_id"))
        result = self._real(op, *args, **kwargs)
        host, real = bound["host_tensor"], bound["device_tensor"]
        cell = self.values.cell(real)
        if cell is not None:
            cell.storage.regain()
        self.values.tensor(real)
        self._queued("ttnn.copy_host_to_device_tensor", real, queue, writes=True)
        shards = self.values.host_shards(host)
        tensor = Tensor(shards, *self.values.storable(host))
        self.values.overwrite("ttnn.copy_host_to_device_tensor", real, tensor, Source.EXACT)
        return result

    def _copy_part_in(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        bound = _named(("host_tensor", "device_tensor"), args, kwargs)
        result = self._real(op, *args, **kwargs)
        name, real = "ttnn.copy_host_to_device_tensor_partial", bound["device_tensor"]
        self._coverage().explain(name, Source.NONE, "which shards lie on which cores is not modelled")
        nothing = Tensor(self.values.unknown(real), *self.values.storable(real))
        self.values.overwrite(name, real, nothing, Source.NONE)
        return result

    def _allocate(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        real = self._real(op, *args, **kwargs)
        zeros = [torch.nan_to_num(shard) for shard in self.values.unknown(real)]
        self.values.put(real, zeros, Source.EXACT)
        return real

    def _deallocate(self, op: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return self._ending(lambda real, *a, **k: self._real(op, real, *a, **k))(tensor, *args, **kwargs)

    # methods

    def _reading(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def reading(real: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._on_device(real):
                return method(real, *args, **kwargs)
            if method.__name__ == "__repr__" and not real.is_allocated():
                return method(real)
            return method(self.read(real), *args, **kwargs)

        return reading

    def _cpu(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def cpu(real: Any, blocking: bool = True, cq_id: Any = None, **kwargs: Any) -> Any:
            if not self._on_device(real):
                return method(real, blocking, cq_id, **kwargs)
            self._queued("ttnn.Tensor.cpu", real, cq_id, writes=False, blocking=blocking)
            return self.read(real)

        return cpu

    def _to(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def to(real: Any, *args: Any, **kwargs: Any) -> Any:
            result = method(real, *args, **kwargs)
            if not self._on_device(result) or self.values.cell(result) is not None:
                return result
            if self._on_device(real):  # in another layout
                self.values.keep(
                    result,
                    self.values.copy(self.values.tensor(real), self.values.storable(result)),
                    self.values.source([real]),
                )
            else:
                self.values.put(result, self.values.host_shards(real), Source.EXACT)
            return result

        return to

    def _reshape(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def reshape(real: Any, *shape: Any) -> Any:
            if not self._on_device(real):
                return method(real, *shape)
            by_numbers = not shape or isinstance(shape[0], int)
            return self._ttnn.reshape(real, list(shape) if by_numbers else shape[0])

        return reshape

    def _ending(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def ending(real: Any, *args: Any, **kwargs: Any) -> Any:
            there = self._on_device(real) and real.is_allocated()
            uid = real.buffer_unique_id() if there else None
            result = method(real, *args, **kwargs)
            if uid is not None and not real.is_allocated():
                self.values.forget(uid)
            return result

        return ending

    # files

    def _loading(self, load: Callable[..., Any]) -> Callable[..., Any]:
        def loading(file_name: str, device: Any = None) -> Any:
            host = load(file_name, None)
            return (
                host
                if device is None
                else self.placed("ttnn.load_tensor", host, device, host.memory_config(), None)
            )

        return loading

    def _dumping(self, dump: Callable[..., Any]) -> Callable[..., Any]:
        def dumping(file_name: str, tensor: Any, *args: Any) -> Any:
            return dump(file_name, self.on_host(tensor), *args)

        return dumping

    def _queued(self, name: str, real: Any, queue: Any, *, writes: bool, blocking: bool = False) -> None:
        """Puts a transfer on its queue, where the emulator looks for races."""
        cell = self.values.cell(real) if real.is_allocated() else None
        if cell is None:
            return
        number = int(self._ttnn.get_current_command_queue_id_for_thread() if queue is None else queue)
        mesh, used = cell.storage.device, (cell.storage,)
        races.enqueue(name, mesh, number, () if writes else used, used if writes else ())
        if blocking and mesh.queues.several:
            mesh.queues.host_waits(mesh.queues.reached(number))


def _named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, whether they were given so or by place."""
    return {**dict(zip(names, args, strict=False)), **kwargs}
