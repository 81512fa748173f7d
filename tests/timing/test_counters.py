"""Counters out of a captured graph, and their baselines. On the real ttnn: tests/suites/test_counters.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.timing.baselines import BaselineError, Baselines
from harness.timing.counters import Counts, costs, ops
from harness.timing.gate import _judge


class Graph:
    """A captured graph as ttnn writes it, built node by node."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []

    def add(self, kind: str, params: dict[str, Any] | None = None, **more: Any) -> int:
        node = {"counter": len(self.nodes), "node_type": kind, "params": params, "connections": []}
        self.nodes.append(node | {"input_tensors": []} | more)
        return len(self.nodes) - 1

    def tensor(self, elements: int, padded: int | None = None, memory: int | None = 0) -> int:
        """A tensor of so many bytes, in a buffer of `padded`; memory 0 is DRAM, 1 L1, None the host."""
        where = {"storage_type": "HOST" if memory is None else "DEVICE", "buffer_type": memory}
        number = self.add("tensor", {"size": elements, **where})
        if padded is not None:
            self.add("buffer", {"size": padded}, connections=[number])
        return number

    def op(self, name: str, inputs: list[int], *outputs: tuple[int, int], **params: Any) -> None:
        self.add("function_start", {"name": name, **params}, input_tensors=inputs)
        self.add("dataflow_buffer_allocate", {"size": 2048, "globally_allocated": "0"})
        self.add("dataflow_buffer_allocate", {"size": 4096, "globally_allocated": "1"})
        end = self.add("function_end", {"name": name})
        self.nodes[end]["connections"] = [self.tensor(*output) for output in outputs]


def test_ops_are_read_with_their_module_and_physical_sizes() -> None:
    """A device op knows the scope it runs in, its inputs' and outputs' bytes with padding, and what a core holds for it."""
    graph = Graph()
    x, view = graph.tensor(100, padded=2048), graph.tensor(64)
    graph.add("function_start", {"name": "module:attention"})
    graph.op("MatmulDeviceOperation", [x, view], (512, 2048), program_cache_hit=False)
    graph.add("function_end", {"name": "module:attention"})
    (op,) = ops(graph.nodes)
    assert (op.module, op.name, op.cache_hit, op.buffers) == ("attention", "Matmul", False, 2048)
    assert [t.size for t in op.inputs] == [2048, 64], "a view of a buffer counts its own elements"
    assert [t.size for t in op.outputs] == [2048]


def test_an_op_inside_another_is_the_outer_ones_business() -> None:
    """Transfers that an op makes for itself, and ops nested in it, are not counted beside it."""
    graph = Graph()
    graph.add("function_start", {"name": "SDPAOperation"})
    graph.op("Tensor::to_device", [graph.tensor(8, memory=None)], (8, 8))
    graph.add("function_end", {"name": "SDPAOperation"})
    assert [op.name for op in ops(graph.nodes)] == ["SDPA"]


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("AllGather", 2048, [16384]),
        ("ReduceScatter", 16384, [32768, 2048]),  # first what it works in
        ("AllBroadcast", 2048, [2048] * 8),
    ],
)
def test_a_collective_goes_over_the_links_of_its_line(name: str, arguments: int, result: list[int]) -> None:
    """Eight devices have seven, whatever the sizes; other ops go over none."""
    graph = Graph()
    x = graph.tensor(arguments, padded=arguments)
    graph.op(f"{name}DeviceOperation", [x], *((size, size) for size in result))
    graph.op("MatmulDeviceOperation", [x], (arguments, arguments))
    collective, matmul = map(costs, ops(graph.nodes))
    assert (collective["collective_links"], collective["collective_bytes"]) == (7, arguments)
    assert (matmul["collective_links"], matmul["collective_bytes"]) == (0, 0)


def counts(ops: int = 2, **by_op: int) -> Counts:
    totals = Counts()
    totals.values["ops"] = ops
    totals.by_op.update(by_op)
    return totals


def test_ops_are_held_to_their_names_and_not_only_their_number() -> None:
    """One op in another's place is a regression, and both are named."""
    ours, theirs = counts(Matmul=1, Tilize=1), counts(Matmul=1, Slice=1)
    assert _judge("ops", ours, ours) == ("pass", "")
    assert _judge("ops", ours, theirs) == ("regression", "baseline 2 (-1 Slice, +1 Tilize)")


def test_fewer_is_a_difference_too() -> None:
    """A pass that lost an op is not a better one: a dropped collective looks like this."""
    assert _judge("ops", counts(ops=1), counts(ops=2))[0] == "regression"


def test_no_baseline_is_named(tmp_path: Path) -> None:
    """Neither a phase that was never counted nor a missing file is a pass."""
    baselines = Baselines(tmp_path, "m", "1x1", "accuracy")
    assert baselines.get("decode B1 S32") is None
    baselines.put("prefill B1 S32", {"model": counts(Matmul=2)})
    assert baselines.get("decode B1 S32") is None
    assert baselines.get("prefill B1 S32") == {"model": counts(Matmul=2)}
    assert _judge("ops", counts(), None)[0] == "missing_baseline"


def test_a_broken_baseline_is_one_line(tmp_path: Path) -> None:
    """A truncated file is named, and is not taken for an absent one."""
    baselines = Baselines(tmp_path, "m", "1x1", "accuracy")
    baselines.put("prefill B1 S32", {"model": counts()})
    baselines.path.write_text(baselines.path.read_text()[:-20])
    with pytest.raises(BaselineError, match=r"m-1x1-accuracy\.json cannot be read") as caught:
        baselines.get("prefill B1 S32")
    assert "\n" not in str(caught.value)
