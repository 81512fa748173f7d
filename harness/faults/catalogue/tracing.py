"""Mistakes that only a trace makes: on a card they hang it, or replay yesterday's values."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import Fault, around


def host_read_in_the_step(patch: pytest.MonkeyPatch) -> None:
    """A decode step looks at its normed stream on the host."""
    import ttnn

    from tt_llm.modules.lm_head import LMHead

    def looked_at(call: Any, self: LMHead, x: Any) -> Any:
        ttnn.get_device_tensors(x)[0].cpu()
        return call(self, x)

    around(patch, LMHead, "__call__", looked_at)


def upload_in_the_step(patch: pytest.MonkeyPatch) -> None:
    """A decode step puts a host tensor on the devices each time."""
    import torch
    import ttnn

    from tt_llm.mesh import replicate
    from tt_llm.modules.rope import Rope

    def put(decode_angles: Any, self: Rope, positions: Any) -> Any:
        replicate(torch.zeros(1, 32, dtype=torch.int32), positions.device(), ttnn.uint32)
        return decode_angles(self, positions)

    around(patch, Rope, "decode_angles", put)


def stale_page_table(patch: pytest.MonkeyPatch) -> None:
    """The page table of the first step is that of all: it is not renewed when it changes."""
    from tt_llm.decoding import Decoding

    def stale(renew: Any, self: Decoding, tokens: Any, positions: Any, table: Any) -> None:
        renew(self, tokens, positions, table if self._table is None else self._table)

    around(patch, Decoding, "renew", stale)


def stale_positions(patch: pytest.MonkeyPatch) -> None:
    """Positions only ever advance: who leaves, comes or goes back between steps is not noticed."""
    from tt_llm.decoding import Decoding

    def stale(renew: Any, self: Decoding, tokens: Any, positions: Any, table: Any) -> None:
        renew(self, tokens, positions if self._positions is None else self._positions, table)

    around(patch, Decoding, "renew", stale)


def unordered_queues(patch: pytest.MonkeyPatch) -> None:
    """No queue waits for the other: a step may read its inputs while they are written."""
    import ttnn

    patch.setattr(ttnn, "wait_for_event", lambda cq_id, mesh_event: None)


def tokens_read_twice(patch: pytest.MonkeyPatch) -> None:
    """The host reads the tokens of a greedy step twice."""
    import ttnn

    from tt_llm.decoding import Decoding

    def both(run: Any, self: Decoding, step: Any) -> Any:
        output = run(self, step)
        if step is self._greedy:
            ttnn.to_torch(ttnn.get_device_tensors(output)[0])
        return output

    around(patch, Decoding, "_run", both)


TRACE_FAULTS = {
    plant.__name__: Fault(plant.__name__, "model", (plant.__doc__ or "").strip(), plant, "1x1", "accuracy")
    for plant in (
        host_read_in_the_step,
        upload_in_the_step,
        stale_page_table,
        stale_positions,
        unordered_queues,
        tokens_read_twice,
    )
}
