"""Mistakes people make in an LLM, to plant in `tt_llm` on purpose and see the suites turn red.

A pytest plugin of its own: `pytest suites -p harness.faults --tt-fault swap_rope_halves`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import USAGE_EXIT


def swap_rope_halves(patch: pytest.MonkeyPatch) -> None:
    """RoPE turns every pair the wrong way: (a, b) into (b, -a) where (-b, a) is right."""
    from tt_llm.modules import rope

    rotation = rope._pair_rotation
    patch.setattr(rope, "_pair_rotation", lambda: rotation().transpose(-1, -2).contiguous())


def shift_positions(patch: pytest.MonkeyPatch) -> None:
    """A decode step takes itself to be one position further on than it is."""
    import ttnn

    from tt_llm.modules.rope import Rope

    decode_angles = Rope.decode_angles

    def shifted(self: Rope, positions: ttnn.Tensor) -> Any:
        return decode_angles(self, ttnn.add(positions, 1))

    patch.setattr(Rope, "decode_angles", shifted)


def drop_causal_mask(patch: pytest.MonkeyPatch) -> None:
    """Prefill lets every token see those after it."""
    import ttnn

    sdpa = ttnn.transformer.scaled_dot_product_attention

    def unmasked(*args: Any, is_causal: bool, **kwargs: Any) -> ttnn.Tensor:
        return sdpa(*args, is_causal=False, **kwargs)

    patch.setattr(ttnn.transformer, "scaled_dot_product_attention", unmasked)


def wrong_attention_scale(patch: pytest.MonkeyPatch) -> None:
    """Scores are divided by the head dimension instead of its square root."""
    from tt_llm.modules.attention import Attention

    init = Attention.__init__

    @functools.wraps(init)
    def squared(self: Attention, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._scale **= 2

    patch.setattr(Attention, "__init__", squared)


def values_cached_as_keys(patch: pytest.MonkeyPatch) -> None:
    """The KV cache gets values where keys belong, and keys where values belong."""
    from tt_llm.modules.attention import Attention

    for name in ("_fill", "_update"):
        write = getattr(Attention, name)

        def swapped(
            self: Any, cache: Any, k: Any, v: Any, *rest: Any, write: Callable[..., None] = write
        ) -> None:
            write(self, cache, v, k, *rest)

        patch.setattr(Attention, name, swapped)


def reshard_in_every_layer(patch: pytest.MonkeyPatch) -> None:
    """Decode takes each MLP's input out of its shards and puts it back: right, and slower."""
    import ttnn

    from tt_llm.modules.mlp import MLP

    decode = MLP.decode

    def resharded(self: MLP, x: ttnn.Tensor) -> Any:
        there = ttnn.sharded_to_interleaved(x, ttnn.DRAM_MEMORY_CONFIG)
        return decode(self, ttnn.interleaved_to_sharded(there, x.memory_config()))

    patch.setattr(MLP, "decode", resharded)


def bf16_gate_weights(patch: pytest.MonkeyPatch) -> None:
    """Gate and up weights of every policy go back to bf16: at least as right, and more bytes to read."""
    import dataclasses

    import ttnn

    from tt_llm import precision

    policies = {
        name: dataclasses.replace(policy, gate_up_weights=ttnn.bfloat16)
        for name, policy in precision.POLICIES.items()
    }
    patch.setattr(precision, "POLICIES", policies)


def dropped_all_reduce(patch: pytest.MonkeyPatch) -> None:
    """The MLP of layer 0 does not sum over the devices: each goes on with its own part."""
    from tt_llm.modules.mlp import MLP

    init = MLP.__init__

    @functools.wraps(init)
    def unsummed(self: MLP, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if args[-1] == 0:
            self._down._reduces = False

    patch.setattr(MLP, "__init__", unsummed)


def averaged_all_reduce(patch: pytest.MonkeyPatch) -> None:
    """The devices' parts are averaged where they should be summed."""
    import ttnn

    from tt_llm import linear, mesh

    def averaged(tensor: ttnn.Tensor) -> Any:
        devices = tensor.device().get_num_devices()
        memory = tensor.memory_config()
        return ttnn.multiply(mesh.all_reduce(tensor), 1 / devices, memory_config=memory)

    patch.setattr(linear, "all_reduce", averaged)


def wo_sharded_on_the_wrong_dim(patch: pytest.MonkeyPatch) -> None:
    """The rows of WO go to the devices interleaved, not in the order of their heads."""
    from tt_llm.split import Split

    wo = Split.wo

    def mixed(self: Split, weight: Any) -> Any:
        right = wo(self, weight)
        rows = right.shape[-2] // self.devices
        return right.unflatten(-2, (rows, self.devices)).transpose(-3, -2).flatten(-3, -2).contiguous()

    patch.setattr(Split, "wo", mixed)


def swapped_kv_heads(patch: pytest.MonkeyPatch) -> None:
    """The first two devices have one another's key and value heads."""
    from dataclasses import replace

    from tt_llm.split import Split

    qkv = Split.qkv

    def swapped(self: Split, q: Any, k: Any, v: Any) -> Any:
        order = list(self.kv)
        order[0], order[1] = order[1], order[0]
        return qkv(replace(self, kv=tuple(order)), q, k, v)

    patch.setattr(Split, "qkv", swapped)


def stale_cache_on_one_device(patch: pytest.MonkeyPatch) -> None:
    """The last device does not write its cache in prefill."""
    import ttnn

    fill = ttnn.experimental.paged_fill_cache

    def skipping(cache: ttnn.Tensor, rows: ttnn.Tensor, *args: Any, **kwargs: Any) -> Any:
        last = len(ttnn.get_device_tensors(cache)) - 1
        cache.own()  # the emulator's: a shard for each device
        kept = cache.shards[last].clone()
        result = fill(cache, rows, *args, **kwargs)
        cache.shards[last].copy_(kept)
        return result

    patch.setattr(ttnn.experimental, "paged_fill_cache", skipping)


def padded_vocabulary_wins(patch: pytest.MonkeyPatch) -> None:
    """The padding of the vocabulary is cut off at the wrong end: its zeros compete, and every token is another one."""
    from tt_llm.mesh import joined
    from tt_llm.modules.lm_head import LMHead

    patch.setattr(LMHead, "to_host", lambda self, logits: joined(logits, -1)[0, 0, :, -self._vocab_size :])


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    fault.__name__: fault
    for fault in (
        swap_rope_halves,
        shift_positions,
        drop_causal_mask,
        wrong_attention_scale,
        values_cached_as_keys,
    )
}
# These need several devices to go wrong.
MESH_FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    fault.__name__: fault
    for fault in (
        dropped_all_reduce,
        averaged_all_reduce,
        wo_sharded_on_the_wrong_dim,
        swapped_kv_heads,
        stale_cache_on_one_device,
        padded_vocabulary_wins,
    )
}
# These leave the numbers right: only counters and latency show them.
SLOWDOWNS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    slowdown.__name__: slowdown for slowdown in (reshard_in_every_layer, bf16_gate_weights)
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tt-harness").addoption(
        "--tt-fault", metavar="NAME", help=f"plant one of: {', '.join(FAULTS | MESH_FAULTS | SLOWDOWNS)}"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    name = session.config.getoption("tt_fault")
    if name is None:
        return
    known = FAULTS | MESH_FAULTS | SLOWDOWNS
    if name not in known:
        pytest.exit(f"fault {name!r}: choose one of {', '.join(known)}", returncode=USAGE_EXIT)
    patch = pytest.MonkeyPatch()
    known[name](patch)
    session.config.add_cleanup(patch.undo)
