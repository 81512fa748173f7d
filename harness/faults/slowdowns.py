"""Changes that leave the numbers right: only counters and latency show them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import Fault, around, in_policies


def reshard_in_every_layer(patch: pytest.MonkeyPatch) -> None:
    """Decode takes each MLP's input out of its shards and puts it back: right, and slower."""
    import ttnn

    from tt_llm.modules.mlp import MLP

    def resharded(decode: Any, self: MLP, x: Any) -> Any:
        there = ttnn.sharded_to_interleaved(x, ttnn.DRAM_MEMORY_CONFIG)
        return decode(self, ttnn.interleaved_to_sharded(there, x.memory_config()))

    around(patch, MLP, "decode", resharded)


def bf16_gate_weights(patch: pytest.MonkeyPatch) -> None:
    """Gate and up weights of every policy go back to bf16: at least as right, and more bytes to read."""
    import ttnn

    in_policies(patch, gate_up_weights=ttnn.bfloat16)


SLOWDOWNS = {
    plant.__name__: Fault(plant.__name__, "mlp", (plant.__doc__ or "").strip(), plant, "1x1", "performance")
    for plant in (reshard_in_every_layer, bf16_gate_weights)
}
