"""Exact counters of one pass of a model, out of ttnn's graph capture: what it runs, moves and holds, per module.

They come from any target that is the real ttnn, a mock cluster included, and do not vary between runs: what differs from
the baseline was changed. Figures are per device; the devices of a mesh run the same programs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.results.catalogue import COUNTERS
from harness.ttnn_calls.call_sites import callers

WHOLE = "model"  # the module that stands for the whole pass
# With their variants
LAYOUT_OPS = ("Tilize", "Untilize", "InterleavedToSharded", "ShardedToInterleaved", "Reshard")
# AllBroadcast: what ttnn gathers with where a slice would break a tile; it has an output for each device.
COLLECTIVES = ("AllGather", "ReduceScatter", "AllReduce", "AllBroadcast")
# Ops that touch a part of a tensor: the rows of a table that are looked up, the rows of a cache that are written.
LOOKUPS = ("Embeddings",)
CACHE_WRITES = ("PagedUpdateCache", "PagedFillCache", "UpdateCache", "FillCache")
BUFFERS = ("circular_buffer_allocate", "dataflow_buffer_allocate", "scratchpad_allocate")
TRANSFERS = {
    "Tensor::to_device": "host_to_device",
    "tt::tt_metal::copy_to_device": "host_to_device",
    "Tensor::cpu": "device_to_host",
}
_SCOPE = "module:"  # starts the name of a scope that this file opens in the graph
_DRAM = 0  # as the graph spells ttnn.BufferType.DRAM
Node = dict[str, Any]


@dataclass
class Counts:
    """The counters of a module, by the names of COUNTERS, and its device ops by name."""

    values: Counter[str] = field(default_factory=Counter)
    by_op: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph: the bytes its buffer takes (of a view: of its elements), those of its elements alone."""

    size: int
    unpadded: int
    in_dram: bool
    on_host: bool


@dataclass
class Op:
    """A device op, or a transfer, in the order of the graph. `buffers`: bytes of one core while it runs."""

    module: str
    name: str
    cache_hit: bool
    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    buffers: int = 0


def count(ttnn: Any, mesh_device: Any, run: Callable[[], object], warm_runs: int = 0) -> dict[str, Counts]:
    """Runs it three times, the first from an empty program cache: counters by module, the whole pass as "model".

    `warm_runs`: how often it is run between the first and the second time, to be what it will be from then on.

    A module is the file in a folder `modules` whose code calls the op, else the file that calls it.
    The third pass is not dispatched: only there does ttnn tell what buffers each program takes.
    """
    mesh_device.clear_program_cache()
    modes = ttnn.graph.RunMode
    with _scopes(ttnn):
        first = captured(ttnn, run, modes.NORMAL)
        for _ in range(warm_runs):
            run()
        second, dry = (captured(ttnn, run, mode) for mode in (modes.NORMAL, modes.NO_DISPATCH))
    totals: dict[str, Counts] = {}
    for op in ops(second):
        for module in (WHOLE, op.module):
            counts = totals.setdefault(module, Counts())
            counts.values.update(costs(op))
            if op.name not in TRANSFERS:
                counts.by_op[op.name] += 1
    for op in ops(first):
        for module in (WHOLE, op.module):
            totals.setdefault(module, Counts()).values["programs"] += not op.cache_hit
    for op in ops(dry):
        for module in (WHOLE, op.module):
            values = totals.setdefault(module, Counts()).values
            values["circular_buffer_bytes"] = max(values["circular_buffer_bytes"], op.buffers)
    usage = ttnn.graph.extract_resource_usage_per_core(dry)
    totals[WHOLE].values["l1_peak_bytes"] = usage.peak_total
    for module, counts in totals.items():
        names = [name for name in COUNTERS if name != "l1_peak_bytes" or module == WHOLE]
        counts.values = Counter({name: counts.values[name] for name in names})
    return totals


def ops(graph: list[Node]) -> Iterator[Op]:
    """The device ops and transfers of a captured graph, each when it has ended."""
    nodes = {node["counter"]: node for node in graph}
    sizes = {
        tensor: node["params"]["size"]
        for node in graph
        if node["node_type"] == "buffer"
        for tensor in node["connections"]
    }

    def tensor(number: int) -> Tensor:
        about = nodes[number]["params"]
        on_host = about["storage_type"] == "HOST"
        unpadded = about["size"]
        return Tensor(sizes.get(number, unpadded), unpadded, about.get("buffer_type") == _DRAM, on_host)

    module, running = "", None
    scopes: list[Node] = []
    for node in graph:
        kind, about = node["node_type"], node["params"]
        if kind == "function_start":
            scopes.append(node)
            name = about["name"]
            if name.startswith(_SCOPE):
                module = name.removeprefix(_SCOPE)
            elif running is None and (name in TRANSFERS or name.endswith("Operation")):
                short = name.removesuffix("Operation").removesuffix("Device")
                inputs = [tensor(number) for number in node["input_tensors"]]
                running = node, Op(module, short, about.get("program_cache_hit", True), inputs)
        elif kind == "function_end":
            start = scopes.pop()
            if running is not None and start is running[0]:
                op = running[1]
                after = [n for n in node["connections"] if nodes[n]["node_type"] == "tensor"]
                op.outputs = [tensor(number) for number in after]
                running = None
                yield op
        elif kind in BUFFERS and running is not None:
            running[1].buffers += 0 if about.get("globally_allocated") == "1" else int(about["size"])


def costs(op: Op) -> dict[str, int]:
    """What one op adds to the counters, by the names of COUNTERS."""
    if op.name in TRANSFERS:
        kind = TRANSFERS[op.name]
        moved = [t for t in op.inputs if t.on_host == (kind == "host_to_device")]
        return {kind: len(moved), f"{kind}_bytes": sum(t.size for t in moved)}
    read, written = op.inputs, op.outputs
    if op.name in LOOKUPS:
        read = [*op.inputs[:-1], *op.outputs]
    elif op.name in CACHE_WRITES:
        cache, rows, *rest = op.inputs
        read, written = [rows, *rest], [replace(rows, size=rows.unpadded, in_dram=cache.in_dram)]
    collective = op.name.startswith(COLLECTIVES)
    return {
        "ops": 1,
        "program_cache_misses": int(not op.cache_hit),
        "layout_conversions": int(op.name.startswith(LAYOUT_OPS)),
        "dram_read_bytes": sum(t.size for t in read if t.in_dram),
        "dram_written_bytes": sum(t.size for t in written if t.in_dram),
        "collective_bytes": sum(t.size for t in op.inputs) if collective else 0,
        "collective_links": _line(op) - 1 if collective else 0,
    }


def _line(op: Op) -> int:
    """The devices that a collective joins, by the sizes of what it takes and makes; a scatter also makes room to work in."""
    if op.name.startswith("AllBroadcast"):
        return len(op.outputs)
    source, sizes = op.inputs[0].size, [t.size for t in op.outputs]
    return source // min(sizes) if op.name.startswith("ReduceScatter") else max(sizes) // source


def captured(ttnn: Any, run: Callable[[], object], mode: Any) -> list[Node]:
    """The graph of what it runs."""
    # Not ttnn.graph.begin_graph_capture, which adds Python-level records and a warning.
    ttnn._ttnn.graph.begin_graph_capture(mode)
    try:
        run()
    finally:
        graph: list[Node] = ttnn._ttnn.graph.end_graph_capture()
    return graph


@contextmanager
def _scopes(ttnn: Any) -> Iterator[None]:
    """While it lasts, every op that ttnn runs opens a scope in the graph that names the module that called it."""
    kind = ttnn.decorators.FastOperation
    call = kind.__call__
    graph = ttnn._ttnn.graph

    def scoped(self: Any, *args: Any, **kwargs: Any) -> Any:
        graph.track_function_start(_SCOPE + _calling_module())
        try:
            return call(self, *args, **kwargs)
        finally:
            graph.track_function_end()

    kind.__call__ = scoped
    try:
        yield
    finally:
        kind.__call__ = call


def _calling_module() -> str:
    """The file stem of the model code that called an op: the innermost in a folder `modules`, else the innermost."""
    nearest = ""
    for frame in callers(sys._getframe(2)):
        file = frame.f_code.co_filename
        if file == __file__:
            continue
        path = Path(file)
        nearest = nearest or path.stem
        if path.parent.name == "modules":
            return path.stem
    return nearest
