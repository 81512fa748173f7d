"""Mistakes of attention: mask, scale, heads, and what a decode step looks at."""

from __future__ import annotations

from typing import Any

import pytest

from harness.faults.planting import around, fault, one_page_wider

_DECODE = "paged_scaled_dot_product_attention_decode"


@fault("attention")
def drop_causal_mask(patch: pytest.MonkeyPatch) -> None:
    """Prefill lets every token see those after it."""
    import ttnn

    def unmasked(sdpa: Any, *args: Any, is_causal: bool, **kwargs: Any) -> Any:
        return sdpa(*args, is_causal=False, **kwargs)

    around(patch, ttnn.transformer, "scaled_dot_product_attention", unmasked)


@fault("attention")
def mask_one_off(patch: pytest.MonkeyPatch) -> None:
    """Prefill's mask lets a token see the one after it, too."""
    import torch
    import ttnn

    def one_more(sdpa: Any, q: Any, *args: Any, is_causal: bool, **kwargs: Any) -> Any:
        rows = q.shape[-2]
        mask = torch.full((1, 1, rows, rows), float("-inf")).triu(2)
        on_device = ttnn.from_torch(
            mask,
            dtype=ttnn.bfloat16,
            layout=ttnn.TILE_LAYOUT,
            device=q.device(),
            mesh_mapper=ttnn.ReplicateTensorToMesh(q.device()),
        )
        return sdpa(q, *args, is_causal=False, attn_mask=on_device, **kwargs)

    around(patch, ttnn.transformer, "scaled_dot_product_attention", one_more)


def _scale(patch: pytest.MonkeyPatch, change: Any) -> None:
    from tt_llm.modules.sdpa import SDPA

    def changed(init: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._scale = change(self._scale)

    around(patch, SDPA, "__init__", changed)


@fault("attention")
def wrong_attention_scale(patch: pytest.MonkeyPatch) -> None:
    """Scores are divided by the head dimension instead of its square root."""
    _scale(patch, lambda scale: scale**2)


@fault("attention")
def no_attention_scale(patch: pytest.MonkeyPatch) -> None:
    """Scores are not divided by anything."""
    _scale(patch, lambda scale: 1.0)


@fault("attention")
def keys_and_values_swapped(patch: pytest.MonkeyPatch) -> None:
    """The fused projection has the value weights where the key weights belong."""
    from tt_llm.tensor_parallel import TensorParallel

    around(patch, TensorParallel, "qkv", lambda qkv, self, q, k, v: qkv(self, q, v, k))


@fault("attention")
def queries_of_other_groups(patch: pytest.MonkeyPatch) -> None:
    """Query heads are dealt to the key-value heads in turn, not in groups of neighbours."""
    from tt_llm.tensor_parallel import TensorParallel

    def dealt(qkv: Any, self: TensorParallel, q: Any, k: Any, v: Any) -> Any:
        head_dim = self.local.head_dim
        groups = k.shape[-1] // head_dim
        heads = q.unflatten(-1, (groups, -1, head_dim)).transpose(-3, -2).flatten(-3)
        return qkv(self, heads, k, v)

    around(patch, TensorParallel, "qkv", dealt)


@fault("attention")
def output_heads_reversed(patch: pytest.MonkeyPatch) -> None:
    """The output projection takes the heads in the reverse order."""
    from tt_llm.tensor_parallel import TensorParallel

    def reversed_heads(wo: Any, self: TensorParallel, weight: Any) -> Any:
        return wo(self, weight.unflatten(-2, (-1, self.local.head_dim)).flip(-3).flatten(-3, -2))

    around(patch, TensorParallel, "wo", reversed_heads)


@fault("attention")
def softmax_twice_as_sharp_in_decode(patch: pytest.MonkeyPatch) -> None:
    """Decode attends with another scale than prefill."""
    import ttnn

    def sharp(sdpa: Any, *args: Any, scale: float, **kwargs: Any) -> Any:
        return sdpa(*args, scale=2 * scale, **kwargs)

    around(patch, ttnn.transformer, _DECODE, sharp)


@fault("attention")
def decode_sees_one_more(patch: pytest.MonkeyPatch) -> None:
    """A decode step attends to the position after its own, too."""
    import ttnn

    def further(sdpa: Any, q: Any, k: Any, v: Any, table: Any, *, cur_pos_tensor: Any, **kwargs: Any) -> Any:
        further_on = ttnn.add(cur_pos_tensor, 1)
        return sdpa(q, k, v, one_page_wider(table), cur_pos_tensor=further_on, **kwargs)

    around(patch, ttnn.transformer, _DECODE, further)


@fault("attention")
def decode_forgets_its_own_token(patch: pytest.MonkeyPatch) -> None:
    """A decode step attends to what was before it, and not to itself."""
    import ttnn

    def nearer(sdpa: Any, *args: Any, cur_pos_tensor: Any, **kwargs: Any) -> Any:
        return sdpa(*args, cur_pos_tensor=ttnn.subtract(cur_pos_tensor, 1), **kwargs)

    around(patch, ttnn.transformer, _DECODE, nearer)


@fault("attention")
def everyone_reads_the_first_users_pages(patch: pytest.MonkeyPatch) -> None:
    """In decode all users attend to the pages of the first one."""
    import ttnn

    def mixed_up(sdpa: Any, q: Any, k: Any, v: Any, table: Any, **kwargs: Any) -> Any:
        first = ttnn.slice(table, (0, 0), (1, table.shape[1]))
        return sdpa(q, k, v, ttnn.repeat(first, (table.shape[0], 1)), **kwargs)

    around(patch, ttnn.transformer, _DECODE, mixed_up)
