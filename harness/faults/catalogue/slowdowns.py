"""Changes that leave the numbers right: only counters and latency show them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import Fault, Plant, around, in_every_precision


def reshard_in_every_layer(patch: pytest.MonkeyPatch) -> None:
    """Decode takes each MLP's input out of its shards and puts it back: right, and slower."""
    import ttnn

    from tt_llm.modules.mlp import MLP

    def resharded(decode: Any, self: MLP, x: Any) -> Any:
        there = ttnn.sharded_to_interleaved(x, ttnn.DRAM_MEMORY_CONFIG)
        return decode(self, ttnn.interleaved_to_sharded(there, x.memory_config()))

    around(patch, MLP, "decode", resharded)


def bf16_gate_weights(patch: pytest.MonkeyPatch) -> None:
    """Gate and up weights of every precision go back to bf16: at least as right, and more bytes to read."""
    import ttnn

    in_every_precision(patch, gate_up_weights=ttnn.bfloat16)


def lost_dram_sharding(patch: pytest.MonkeyPatch) -> None:
    """Weights lie interleaved over the DRAM banks, and decode reads them with a 1D matmul: 190 GB/s for 240."""
    import dataclasses

    import ttnn

    from tt_llm.op_configs import OpConfigs, _matmul_1d

    def interleaved(linear: Any, self: OpConfigs, *args: Any, **kwargs: Any) -> Any:
        right = linear(self, *args, **kwargs)
        grid = (min(self._cores, self.grid[0]), -(-self._cores // self.grid[0]))
        program = _matmul_1d(right.decode.in0_block_w, right.n_tiles, grid, right.fp32_dest)
        return dataclasses.replace(right, weight_memory=ttnn.DRAM_MEMORY_CONFIG, decode=program)

    around(patch, OpConfigs, "_linear", interleaved)


def host_read_every_step(patch: pytest.MonkeyPatch) -> None:
    """A decode step reads its logits twice."""
    import ttnn

    from tt_llm.model import Model

    def reading(decode: Any, self: Model, *args: Any) -> Any:
        logits = decode(self, *args)
        ttnn.to_torch(ttnn.get_device_tensors(logits)[0])
        return logits

    around(patch, Model, "decode", reading)


def one_more_collective(patch: pytest.MonkeyPatch) -> None:
    """After each MLP the devices of a mesh gather what all of them have, and keep the first one's."""
    from tt_llm.mesh import all_gather
    from tt_llm.modules.mlp import MLP

    def gathered(decode: Any, self: MLP, x: Any) -> Any:
        y = decode(self, x)
        return all_gather(y, y.shape[-1], y.memory_config())

    around(patch, MLP, "decode", gathered)


def _slowdown(module: str, plant: Plant, mesh: str = "1x1") -> Fault:
    return Fault(plant.__name__, module, (plant.__doc__ or "").strip(), plant, mesh, "performance")


SLOWDOWNS = {
    slowdown.name: slowdown
    for slowdown in (
        _slowdown("mlp", reshard_in_every_layer),
        _slowdown("mlp", bf16_gate_weights),
        _slowdown("mlp", lost_dram_sharding),
        _slowdown("lm_head", host_read_every_step),
        _slowdown("mlp", one_more_collective, mesh="1x2"),
    )
}
