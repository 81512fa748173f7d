"""Scaled dot product attention of a prompt: `ttnn.transformer.scaled_dot_product_attention`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from harness.emulator.arithmetic import fidelity, formats, mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import refuse
from harness.emulator.ops.attention import prefill_steps
from harness.emulator.ops.attention.checks import check_inputs, check_mask_format, check_sink, window_size
from harness.emulator.ops.attention.core import attend, attend_with_sink
from harness.emulator.ops.attention.decode_setting import DEFAULT, exp_is_approximate
from harness.emulator.ops.attention.places import Setting
from harness.emulator.ops.attention.windows import hiding
from harness.emulator.ops.eltwise.binary import multiply
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor
from harness.emulator.runtime.tensor import Tensor, device_of, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import DRAM_MEMORY_CONFIG, MemoryConfig
from harness.emulator.spec.program_configs import SDPAProgramConfig, WormholeComputeKernelConfig
from harness.emulator.spec.types import TILE_SIZE, BufferType, Layout, MathFidelity

_NAME = "ttnn.transformer.scaled_dot_product_attention"
_EMPTY = torch.empty(0, dtype=torch.bfloat16)


@op(_NAME)
def scaled_dot_product_attention(
    input_tensor_q: Tensor,
    input_tensor_k: Tensor,
    input_tensor_v: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    memory_config: MemoryConfig | None = None,
    program_config: SDPAProgramConfig | None = None,
    compute_kernel_config: WormholeComputeKernelConfig | None = None,
    attention_sink: Tensor | None = None,
    output_concat_heads: bool = False,
) -> Tensor:
    """q [B, nq, Sq, D], k and v [B, nkv, Sk, D], nkv dividing nq; mask [1 or B, 1 or nq, Sq, Sk] added to the scaled scores.

    Returns [B, nq, Sq, D] with q's dtype, or the heads side by side, [B, 1, Sq, nq * D]; scale defaults to D ** -0.5.

    The kernels scale what they have added the mask to, so ttnn first divides the mask by the scale, an op of its own whose result
    has the mask's dtype. In the last tile of keys they see the mask's padding, which is zero, as keys that score zero.

    With a sliding_window_size a query at position p sees the keys (p - window, p], or, without causality, those at most
    window // 2 away. attention_sink [1, nq, 1, 1] is a score more in every row of its head, of a key whose value is zero; no
    scale touches it before it is added, so give the model's own divided by the scale.
    """
    q, k, v = input_tensor_q, input_tensor_k, input_tensor_v
    check_inputs(_NAME, q, k, v, q.shape[1] if len(q.shape) == 4 else 0)
    _check_prefill(q, k, v)
    if is_causal and attn_mask is not None:
        refuse(_NAME, "is_causal and attn_mask cannot both be given; is_causal is True unless told otherwise")
    if is_causal and q.shape[-2] != k.shape[-2]:
        refuse(_NAME, f"causal attention needs as many queries as keys, got {q.shape[-2]} and {k.shape[-2]}")
    if sliding_window_size and attn_mask is not None:
        refuse(_NAME, "sliding_window_size and attn_mask cannot both be given: put the window into the mask")
    window = window_size(_NAME, sliding_window_size)
    _check_chunks(_NAME, program_config)
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    mask = attn_mask
    if attn_mask is not None:
        _check_mask(attn_mask, q, k)
        mask = unscaled(attn_mask, factor)
    hidden = attn_mask is not None and attn_mask.padding == -torch.inf
    math = (compute_kernel_config or DEFAULT).math_fidelity
    config = memory_config or DRAM_MEMORY_CONFIG
    setting = prefill_setting(compute_kernel_config or DEFAULT, program_config, factor, window)
    check_sink(_NAME, attention_sink, [1, q.shape[1], 1, 1], setting.math.fp32_dest)
    zeros = 0
    if window and not is_causal and setting.math.fp32_dest:
        zeros = -k.shape[2] % setting.k_chunk
    if zeros:
        warnings.warn(
            f"{_NAME}: with a float32 destination and no causality the kernel's window does not hide what fills {k.shape[2]} keys "
            f"to chunks of {setting.k_chunk}: keys that score 0 (modes device and exact have them; fast does not)",
            stacklevel=2,
        )
    is_fast = mode.current() is Mode.FAST

    def modelled(
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        sink: torch.Tensor | None,
    ) -> torch.Tensor:
        if mask is not None:
            keys, values, mask = _padded(keys, values, mask, hidden)
        elif zeros:
            keys, values = (F.pad(t, (0, 0, 0, zeros)) for t in (keys, values))
        heads = None if sink is None else sink.reshape(-1).bfloat16()
        dest = prefill_steps.attend(x, keys, values, mask, is_causal, setting, heads)
        return formats.pack_round(dest, q.dtype)

    def fast(
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        sink: torch.Tensor | None,
    ) -> torch.Tensor:
        return packed(fast_prefill(x, keys, values, mask, sink, math, is_causal, window, factor), q.dtype)

    def shards() -> list[torch.Tensor]:
        added = attn_mask if is_fast else mask
        masks = itertools.repeat(None) if added is None else added.shards
        sinks = itertools.repeat(None) if attention_sink is None else attention_sink.shards
        operands = list(zip(q.shards, k.shards, v.shards, masks, sinks, strict=False))
        # A device of a mesh may have padding for heads: whatever the weights, they weigh zeros.
        some = [bool(values.any()) for values in v.shards]
        filled = list(itertools.compress(operands, some))
        together = is_fast and attention_sink is None
        results = iter(
            _at_once(fast, filled) if together else itertools.starmap(fast if is_fast else modelled, filled)
        )
        outputs = [
            next(results) if has else torch.zeros_like(x) for has, x in zip(some, q.shards, strict=True)
        ]
        return [x.transpose(1, 2).reshape(shape) for x in outputs] if output_concat_heads else outputs

    batch, heads, rows, width = q.shape
    shape = Shape((batch, 1, rows, heads * width)) if output_concat_heads else q.shape
    return make_tensor(_NAME, shards, shape, q.dtype, Layout.TILE, config, device_of(q))


def unscaled(mask: Tensor, scale: float) -> Tensor:
    """The mask as the kernels get it, divided by a scale that is not 1: what ttnn makes of it in DRAM, in the mask's dtype."""
    if scale == 1.0:
        return mask
    divided: Tensor = multiply(mask, 1.0 / scale if scale else torch.inf, memory_config=DRAM_MEMORY_CONFIG)
    return divided


def _padded(
    keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, hidden: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys to the end of their last tile: the kernels leave it to the mask to hide them, whose own padding is zero unless it
    came from the host with a `pad_value` of -inf (`hidden`)."""
    short = -keys.shape[2] % TILE_SIZE
    if not short:
        return keys, values, mask
    around = (0, 0, 0, short)
    longer = F.pad(mask, (0, short), value=-torch.inf if hidden else 0.0)
    return F.pad(keys, around), F.pad(values, around), longer


def _at_once(
    attend: Callable[..., torch.Tensor],
    devices: Sequence[
        tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]
    ],
) -> list[torch.Tensor]:
    """All devices' attention as one batch: a device has a head or two, too little to share among the CPU's threads."""
    if len(devices) <= 1:
        return list(itertools.starmap(attend, devices))
    x, keys, values, masks, _ = zip(*devices, strict=True)
    users = len(x[0])
    mask = torch.cat([m.expand(users, -1, -1, -1) for m in masks]) if masks[0] is not None else None
    return list(attend(torch.cat(x), torch.cat(keys), torch.cat(values), mask, None).split(users))


def _check_prefill(q: Tensor, k: Tensor, v: Tensor) -> None:
    for what, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.config.sharded:
            refuse(_NAME, f"{what} must be interleaved, got {tensor.config.memory_layout}")
        if tensor.shape[-1] % TILE_SIZE:
            refuse(
                _NAME,
                f"padding is not supported on the head dim: {what}'s {tensor.shape[-1]} must be a multiple of {TILE_SIZE}",
            )
    if q.shape[0] != k.shape[0]:
        refuse(_NAME, f"batch of q ({q.shape[0]}) and k ({k.shape[0]}) differ")


def fast_prefill(
    x: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    sink: torch.Tensor | None,
    math: MathFidelity,
    causal: bool,
    window: int,
    scale: float,
    position: int = 0,
) -> torch.Tensor:
    """Prefill attention of mode `fast`, the first query at `position` of the keys; mask and sink as the op has them."""
    x, keys = fidelity.matmul_operands(x, keys, math)
    values = fidelity.matmul_operands(_EMPTY, values, math)[1]
    rows, span = x.shape[2], keys.shape[2]
    if window or position or (sink is not None and causal):
        places = torch.arange(position, position + rows)
        mask, causal = hiding(window or span + rows, causal, places, torch.arange(span))[None, None], False
    if sink is None:
        return attend(x, keys, values, mask, causal, scale)
    return attend_with_sink(x, keys, values, mask, sink.reshape(-1, 1, 1), scale)


def prefill_setting(
    compute: WormholeComputeKernelConfig,
    program: SDPAProgramConfig | None,
    scale: float,
    window: int,
    position: int = 0,
) -> Setting:
    return Setting(
        math=fidelity.Math(compute.math_fidelity, compute.fp32_dest_acc_en),
        matmul_fidelity=program.matmul_math_fidelity if program is not None else None,
        approx=compute.math_approx_mode,
        exp_approx=exp_is_approximate(program),
        scale=scale,
        q_chunk=program.q_chunk_size if program is not None else TILE_SIZE,
        k_chunk=program.k_chunk_size if program is not None else TILE_SIZE,
        window=window,
        position=position,
    )


def _check_chunks(name: str, program: SDPAProgramConfig | None) -> None:
    if program is None:
        return
    for what, size in (("q_chunk_size", program.q_chunk_size), ("k_chunk_size", program.k_chunk_size)):
        if size <= 0 or size % TILE_SIZE:
            refuse(name, f"{what} must be a positive multiple of {TILE_SIZE}, got {size}")


def _check_mask(mask: Tensor, q: Tensor, k: Tensor) -> None:
    require_device(_NAME, mask)
    check_mask_format(_NAME, mask)
    if mask.config.buffer_type is not BufferType.DRAM:
        refuse(_NAME, f"attn_mask must be in DRAM, got {mask.config.buffer_type}")
    expected = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    fits = len(mask.shape) == 4 and all(
        m in (1, w) for m, w in zip(mask.shape[:2], expected[:2], strict=True)
    )
    if not fits or tuple(mask.shape[2:]) != expected[2:]:
        refuse(_NAME, f"attn_mask {list(mask.shape)} does not fit scores of shape {list(expected)}")
    keys = k.shape[2]
    if keys % TILE_SIZE and mask.padding != -torch.inf:
        end = -(-keys // TILE_SIZE) * TILE_SIZE
        warnings.warn(
            f"{_NAME}: attn_mask hides nothing of the padding that fills {keys} keys to {end}, and the kernels count it as keys "
            f"that score 0 (modes device and exact do; fast does not): pad k, v and the mask to {end}, the mask with -inf",
            stacklevel=2,
        )
