"""What each op should give, in plain PyTorch: the golden of one op call on one device.

A golden has its op's own parameters, every ttnn tensor in them replaced by what one device holds: float32 or float64 in the
logical shape, int64 for ids and positions. It returns the result's tensors, for an op that writes into an argument the argument's
new value. Configs of programs, memory and compute are ignored: a golden knows arithmetic only. A collective's golden takes a
list of tensors in a tensor's place, a device each, and gives such a list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from harness.ttnn_calls.op_log import Op

Tensor = torch.Tensor
Golden = Callable[..., Any]


class NoGolden(LookupError):
    """Nothing here says what this call should give; the message says why."""


# Calls that compute nothing: to and from the host, and the life of a buffer.
TRANSFERS = (
    "ttnn.to_torch",
    "ttnn.from_device",
    "ttnn.deallocate",
    "ttnn.get_device_tensors",
    "ttnn.allocate_tensor_on_device",
    "ttnn.empty",
)


def golden_of(name: str, op: Op, ttnn: Any) -> Golden:
    """The golden of an op: ours, else Tenstorrent's own where the ttnn in place has one. Raises NoGolden."""
    if name in GOLDENS:
        return GOLDENS[name]
    lookup = getattr(ttnn, "get_golden_function", None)
    if lookup is not None:
        try:
            return lookup(op)  # type: ignore[no-any-return]
        except (RuntimeError, AttributeError):  # an op without one
            pass
    raise NoGolden(f"{name} has no golden")


def _activated(x: Tensor, activations: Sequence[Any]) -> Tensor:
    for activation in activations:
        name = activation if isinstance(activation, str) else getattr(activation, "name", None)
        unary = (name or "").rpartition(".")[2].lower()  # "silu", or "UnaryOpType.SILU" as a recording has it
        if unary not in _UNARY:
            raise NoGolden(f"activation {activation} has no golden")
        x = _UNARY[unary](x)
    return x


def _linear(
    a: Tensor,
    b: Tensor,
    *,
    bias: Tensor | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    activation: Any = None,
    **_: Any,
) -> Tensor:
    a = a.transpose(-1, -2) if transpose_a else a
    b = b.transpose(-1, -2) if transpose_b else b
    y = a @ b if bias is None else a @ b + bias
    return y if activation is None else _activated(y, [activation])


def _binary(function: Callable[[Any, Any], Tensor]) -> Golden:
    def golden(
        a: Any,
        b: Any,
        *,
        activations: Sequence[Any] = (),
        input_tensor_a_activations: Sequence[Any] = (),
        input_tensor_b_activations: Sequence[Any] = (),
        **_: Any,
    ) -> Tensor:
        left, right = _activated(a, input_tensor_a_activations), _activated(b, input_tensor_b_activations)
        return _activated(function(left, right), activations)

    return golden


def _rms_norm(
    x: Tensor,
    weight: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    **_: Any,
) -> Tensor:
    x = x if residual_input_tensor is None else x + residual_input_tensor
    y = functional.rms_norm(x, x.shape[-1:], eps=epsilon)
    y = y if weight is None else y * weight.reshape(-1)
    return y if bias is None else y + bias.reshape(-1)


def _layer_norm(
    x: Tensor,
    *,
    epsilon: float = 1e-12,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual_input_tensor: Tensor | None = None,
    **_: Any,
) -> Tensor:
    x = x if residual_input_tensor is None else x + residual_input_tensor
    gamma, beta = (None if t is None else t.reshape(-1) for t in (weight, bias))
    return functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def _embedding(ids: Tensor, table: Tensor, **_: Any) -> Tensor:
    return functional.embedding(ids.reshape(ids.shape[0], ids.shape[-1]), table.reshape(-1, table.shape[-1]))


def _rope_pairs(
    x: Tensor, cos: Tensor, sin: Tensor, trans_mat: Tensor, *, is_decode_mode: bool = False, **_: Any
) -> Tensor:
    # The matrix is how the kernel turns a pair, (a, b) into (-b, a), not what RoPE is: a wrong one is an error of the op.
    rows = 1 if is_decode_mode else x.shape[-2]
    turned = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    # Rows that the tables do not reach become zero.
    cos, sin = (functional.pad(t, (0, 0, 0, max(0, rows - t.shape[-2]))) for t in (cos, sin))
    return x * cos[..., :rows, :] + turned * sin[..., :rows, :]


def _rope_halves(x: Tensor, cos: Tensor, sin: Tensor, *, is_decode_mode: bool = False, **_: Any) -> Tensor:
    rows = 1 if is_decode_mode else x.shape[-2]
    first, second = x.chunk(2, dim=-1)
    return x * cos[..., :rows, :] + torch.cat((-second, first), dim=-1) * sin[..., :rows, :]


def _split_heads(x: Tensor, num_heads: int, num_kv_heads: int | None) -> list[Tensor]:
    # [.., (nq + 2 nkv) hd] -> [.., n, hd] three times
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    head_dim = x.shape[-1] // (num_heads + 2 * kv_heads)
    widths = [heads * head_dim for heads in (num_heads, kv_heads, kv_heads)]
    return [part.unflatten(-1, (-1, head_dim)) for part in x.split(widths, dim=-1)]


def _create_heads(
    x: Tensor,
    input_kv: Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
    **_: Any,
) -> tuple[Tensor, ...]:
    if input_kv is not None:
        raise NoGolden("nlp_create_qkv_heads with a separate input_kv has no golden")
    q, k, v = (part.transpose(1, 2) for part in _split_heads(x[:, 0], num_heads, num_kv_heads))
    return q, k.transpose(-1, -2) if transpose_k_heads else k, v


def _create_heads_decode(
    x: Tensor, *, num_heads: int, num_kv_heads: int | None = None, **_: Any
) -> tuple[Tensor, ...]:
    return tuple(_split_heads(x[:, 0], num_heads, num_kv_heads))  # [1, 1, B, ..] -> [1, B, n, hd]


def _concat_heads(x: Tensor, **_: Any) -> Tensor:
    return x.transpose(1, 2).flatten(2)[:, None]  # [B, n, S, hd] -> [B, 1, S, n hd]


def _concat_heads_decode(x: Tensor, *, num_heads: int | None = None, **_: Any) -> Tensor:
    return x[:, :, :num_heads].flatten(2)[:, None]  # [1, B, n, hd] -> [1, 1, B, n hd]


def _fill_cache(
    cache: Tensor,
    rows: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
    **_: Any,
) -> Tensor:
    user = batch_idx if batch_idx_tensor is None else int(batch_idx_tensor.flatten()[0])
    cache, block = cache.clone(), cache.shape[2]
    for start in range(0, rows.shape[2], block):
        part = rows[0, :, start : start + block]
        page = int(page_table[user, start // block])
        if page >= 0:
            cache[page, :, : part.shape[1]] = part
    return cache


def _update_cache(
    cache: Tensor,
    rows: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
    **_: Any,
) -> Tensor:
    positions = update_idxs if update_idxs_tensor is None else update_idxs_tensor.flatten().tolist()
    cache = cache.clone()
    for user, position in enumerate(positions):
        if position < 0:
            continue
        if page_table is None:
            cache[user, :, position] = rows[0, user]
        else:
            block, row = divmod(position, cache.shape[2])
            cache[int(page_table[user, block]), :, row] = rows[0, user]
    return cache


def _sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    output_concat_heads: bool = False,
    **_: Any,
) -> Tensor:
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=attn_mask, is_causal=is_causal, scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2).flatten(2)[:, None] if output_concat_heads else out


def _sdpa_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    page_table: Tensor | None = None,
    *,
    is_causal: bool = True,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Tensor | None = None,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    # q [1, B, nq, hd]. A user without a position is not attended for: the device leaves its rows unwritten.
    if not is_causal:
        raise NoGolden("attention of a decode step without positions has no golden")
    positions = cur_pos if cur_pos_tensor is None else cur_pos_tensor.flatten().tolist()
    out = torch.full_like(q, math.nan)
    for user, position in enumerate(positions):
        if position < 0:
            continue
        if page_table is None:
            keys, values = k[user], v[user]
        else:
            pages = page_table[user, : position // k.shape[2] + 1]
            keys, values = (cache[pages].transpose(0, 1).flatten(1, 2) for cache in (k, v))
        seen = slice(position + 1)
        out[0, user] = functional.scaled_dot_product_attention(
            q[:, user, :, None], keys[None, :, seen], values[None, :, seen], scale=scale, enable_gqa=True
        )[0, :, 0]
    return out


def _slice(
    x: Tensor, start: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None, **_: Any
) -> Tensor:
    return x[tuple(map(slice, start, end, step or [1] * len(start)))]


def _untilized(x: Tensor, output_tensor_end: Sequence[int], **_: Any) -> Tensor:
    return x[tuple(slice(last + 1) for last in output_tensor_end)]


def _padded(x: Tensor, padding: Sequence[Sequence[int]], value: float = 0.0, **_: Any) -> Tensor:
    widths = [width for dim in reversed(list(padding)) for width in dim]
    return functional.pad(x, widths, value=value)


def _reduced(function: Callable[..., Any]) -> Golden:
    def golden(
        x: Tensor, dim: int | None = None, keepdim: bool = False, *, scalar: float = 1.0, **_: Any
    ) -> Tensor:
        dims = tuple(range(x.dim())) if dim is None else (dim,)
        result: Tensor = function(x, dims, keepdim)
        return result * scalar

    return golden


def _argmax(x: Tensor, dim: int | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    return x.argmax(dim, keepdim)


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _gathered(parts: list[Tensor], dim: int, **_: Any) -> list[Tensor]:
    return [torch.cat(parts, dim)] * len(parts)


def _summed(parts: list[Tensor], **_: Any) -> list[Tensor]:
    return [torch.stack(parts).sum(0)] * len(parts)


def _scattered(parts: list[Tensor], dim: int, **_: Any) -> list[Tensor]:
    return list(torch.stack(parts).sum(0).chunk(len(parts), dim))


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": functional.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "square": torch.square,
    "neg": torch.neg,
}


def _unary(function: Callable[[Tensor], Tensor]) -> Golden:
    return lambda x, **_: function(x)


_EXPERIMENTAL, _TRANSFORMER = "ttnn.experimental.", "ttnn.transformer."
_PLACEMENT = (
    *("to_memory_config", "interleaved_to_sharded", "sharded_to_interleaved", "reshard", "move", "clone"),
    *("typecast", "to_dtype", "to_layout", "tilize", "untilize", "to_device", "tilize_with_zero_padding"),
)

GOLDENS: dict[str, Golden] = {
    **{f"ttnn.{name}": _unary(function) for name, function in _UNARY.items()},
    **{f"ttnn.{name}": _same for name in _PLACEMENT},
    "ttnn.matmul": _linear,
    "ttnn.linear": _linear,
    "ttnn.add": _binary(torch.add),
    "ttnn.subtract": _binary(torch.sub),
    "ttnn.sub": _binary(torch.sub),
    "ttnn.multiply": _binary(torch.mul),
    "ttnn.mul": _binary(torch.mul),
    "ttnn.rms_norm": _rms_norm,
    "ttnn.layer_norm": _layer_norm,
    "ttnn.embedding": _embedding,
    "ttnn.softmax": lambda x, dim=-1, **_: x.softmax(dim),
    "ttnn.sum": _reduced(torch.sum),
    "ttnn.mean": _reduced(torch.mean),
    "ttnn.max": _reduced(torch.amax),
    "ttnn.min": _reduced(torch.amin),
    "ttnn.argmax": _argmax,
    "ttnn.plus_one": lambda x, *_, **__: x + 1,
    "ttnn.copy": _same,
    "ttnn.reshape": lambda x, shape, **_: x.reshape(tuple(shape)),
    "ttnn.unsqueeze_to_4D": lambda x: x.reshape((1,) * (4 - x.dim()) + tuple(x.shape)),
    "ttnn.unsqueeze": lambda x, dim: x.unsqueeze(dim),
    "ttnn.squeeze": lambda x, dim=None: x.squeeze() if dim is None else x.squeeze(dim),
    "ttnn.permute": lambda x, dims, **_: x.permute(tuple(dims)),
    "ttnn.transpose": lambda x, a, b, **_: x.transpose(a, b),
    "ttnn.concat": lambda parts, dim=0, **_: torch.cat(list(parts), dim),
    "ttnn.repeat": lambda x, dims, **_: x.repeat(tuple(dims)),
    "ttnn.repeat_interleave": lambda x, repeats, dim, **_: x.repeat_interleave(repeats, dim),
    "ttnn.slice": _slice,
    "ttnn.pad": _padded,
    "ttnn.untilize_with_unpadding": _untilized,
    f"{_EXPERIMENTAL}nlp_create_qkv_heads": _create_heads,
    f"{_EXPERIMENTAL}nlp_create_qkv_heads_decode": _create_heads_decode,
    f"{_EXPERIMENTAL}nlp_concat_heads": _concat_heads,
    f"{_EXPERIMENTAL}nlp_concat_heads_decode": _concat_heads_decode,
    f"{_EXPERIMENTAL}rotary_embedding_llama": _rope_pairs,
    f"{_EXPERIMENTAL}rotary_embedding_hf": _rope_halves,
    f"{_EXPERIMENTAL}rotary_embedding": _rope_halves,
    f"{_EXPERIMENTAL}paged_fill_cache": _fill_cache,
    f"{_EXPERIMENTAL}paged_update_cache": _update_cache,
    f"{_TRANSFORMER}scaled_dot_product_attention": _sdpa,
    f"{_TRANSFORMER}scaled_dot_product_attention_decode": lambda q, k, v, **kw: _sdpa_decode(q, k, v, **kw),
    f"{_TRANSFORMER}paged_scaled_dot_product_attention_decode": _sdpa_decode,
    "ttnn.all_gather": _gathered,
    "ttnn.all_reduce": _summed,
    "ttnn.reduce_scatter": _scattered,
}
