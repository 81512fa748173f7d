"""Mistakes that only several devices can make."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import around, fault, scaled


@fault("mlp", mesh="1x2", precision="performance")
def dropped_all_reduce(patch: pytest.MonkeyPatch) -> None:
    """The MLP of layer 0 does not sum over the devices: each goes on with its own part."""
    from tt_llm.modules.mlp import MLP

    def unsummed(init: Any, self: MLP, *, layer: int, **kwargs: Any) -> None:
        init(self, layer=layer, **kwargs)
        if layer == 0:
            self._down._reduces = False

    around(patch, MLP, "__init__", unsummed)


@fault("mlp", mesh="1x2", precision="performance")
def averaged_all_reduce(patch: pytest.MonkeyPatch) -> None:
    """The devices' parts are averaged where they should be summed."""
    from tt_llm import linear

    def averaged(all_reduce: Any, tensor: Any, axis: int | None = None) -> Any:
        mesh = tensor.device()
        devices = mesh.get_num_devices() if axis is None else mesh.shape[axis]
        return scaled(all_reduce(tensor, axis), 1 / devices)

    around(patch, linear, "all_reduce", averaged)


@fault("attention", mesh="1x2")
def wo_sharded_on_the_wrong_dim(patch: pytest.MonkeyPatch) -> None:
    """The rows of WO go to the devices interleaved, not in the order of their heads."""
    from tt_llm.tensor_parallel import TensorParallel

    def mixed(wo: Any, self: TensorParallel, weight: Any) -> Any:
        right = wo(self, weight)
        rows = right.shape[-2] // self.rows
        return right.unflatten(-2, (rows, self.rows)).transpose(-3, -2).flatten(-3, -2).contiguous()

    around(patch, TensorParallel, "wo", mixed)


@fault("attention", mesh="1x2")
def swapped_kv_heads(patch: pytest.MonkeyPatch) -> None:
    """The first two devices that differ have one another's key and value heads."""
    from dataclasses import replace

    from tt_llm.tensor_parallel import TensorParallel

    def swapped(qkv: Any, self: TensorParallel, q: Any, k: Any, v: Any) -> Any:
        order = list(self.kv_heads)
        other = self.columns  # of weights sharded in 2D the devices of a row hold the same
        order[0], order[other] = order[other], order[0]
        return qkv(replace(self, kv_heads=tuple(order)), q, k, v)

    around(patch, TensorParallel, "qkv", swapped)


@fault("attention", mesh="1x2")
def stale_cache_on_one_device(patch: pytest.MonkeyPatch) -> None:
    """The last device does not write its cache in prefill."""
    import ttnn

    def skipping(fill: Any, cache: Any, *args: Any, **kwargs: Any) -> Any:
        last = len(ttnn.get_device_tensors(cache)) - 1
        cache.own()  # the emulator's: a shard for each device
        backup = cache.shards[last].clone()
        result = fill(cache, *args, **kwargs)
        cache.shards[last].copy_(backup)
        return result

    around(patch, ttnn.experimental, "paged_fill_cache", skipping)


@fault("lm_head", mesh="1x2")
def padded_vocabulary_wins(patch: pytest.MonkeyPatch) -> None:
    """The padding of the vocabulary is cut off at the wrong end: its zeros compete, and every token is another one."""
    from tt_llm.mesh import concat_to_host
    from tt_llm.modules.lm_head import LMHead

    patch.setattr(
        LMHead, "to_host", lambda self, logits: concat_to_host(logits, -1)[0, 0, :, -self._vocab_size :]
    )


@fault("lm_head", mesh="1x2")
def devices_joined_in_reverse(patch: pytest.MonkeyPatch) -> None:
    """The devices' parts of the vocabulary are joined in the wrong order."""
    import ttnn

    from tt_llm.modules import lm_head

    def reversed_parts(joined: Any, tensor: Any, dim: int) -> Any:
        with pytest.MonkeyPatch.context() as inside:
            around(inside, ttnn, "get_device_tensors", lambda parts, t: parts(t)[::-1])
            return joined(tensor, dim)

    around(patch, lm_head, "concat_to_host", reversed_parts)


@fault("mlp", mesh="1x2")
def columns_gathered_in_reverse(patch: pytest.MonkeyPatch) -> None:
    """The devices' columns come together in the wrong order."""
    import ttnn

    from tt_llm import linear

    def reversed_columns(gather: Any, tensor: Any, width: int, memory: Any, *axis: Any) -> Any:
        whole = gather(tensor, width, ttnn.DRAM_MEMORY_CONFIG, *axis)
        rows, part = whole.shape[-2], tensor.shape[-1]
        first = ttnn.slice(whole, (0, 0, 0, 0), (1, 1, rows, part))
        others = ttnn.slice(whole, (0, 0, 0, part), (1, 1, rows, width))
        return ttnn.to_memory_config(ttnn.concat([others, first], dim=-1), memory)

    around(patch, linear, "all_gather", reversed_columns)
