"""The steps of prefill attention between its products, compiled: kernels/attention_steps.cpp, a chunk of keys in one go."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from harness.emulator import kernels
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import rules
from harness.emulator.ops.attention import sfpu_steps


@dataclass(frozen=True)
class State:
    """What the chunks of keys so far left of all rows: maxima [groups, heads, Sq, 1], sums by column of a tile [..., 32] and
    outputs before they are divided by the sums [..., D]. All bfloat16, but float32 sums with a float32 Dest."""

    largest: torch.Tensor
    sums: torch.Tensor
    out: torch.Tensor


class _Weighing(ctypes.Structure):
    """`Weighing` of kernels/attention_steps.cpp."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("scores", "weights", "largest", "sums", "alpha", "corrections")
        ),
        *((name, ctypes.c_int64) for name in ("matrices", "rows", "keys", "all_rows", "first", "seen")),
        *((name, ctypes.c_float) for name in ("scale", "correction_scale", "approximate_factor")),
        *((name, ctypes.c_int32) for name in ("exp_approx", "fp32_dest", "phases", "onto", "threads")),
    )


class _Outputs(ctypes.Structure):
    """`Outputs` of kernels/attention_steps.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("part", "out", "alpha")),
        *((name, ctypes.c_int64) for name in ("matrices", "rows", "width", "all_rows", "first")),
        *((name, ctypes.c_int32) for name in ("fp32_dest", "phases", "onto", "threads")),
    )


def weigh(
    library: kernels.Library,
    scores: torch.Tensor,
    state: State,
    math: Math,
    *,
    scale: float,
    exp_approx: bool,
    first: int,
    keys_end: int,
    onto: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [groups, heads, rows, keys], float32 -> weights of that shape as a source register has them (TF32 in float32, or
    bfloat16), and what the outputs of earlier chunks are multiplied by, [groups, heads, rows, 1] in bfloat16. The scores may be
    overwritten.

    The rows are those of `state` from `first` on, whose maxima and sums come to cover this chunk too. The first row sees `seen`
    of the keys, each further row one more. `onto`: there are chunks before this one.
    """
    scores = scores.contiguous()
    weights = scores if math.fp32_dest else torch.empty_like(scores, dtype=torch.bfloat16)
    alpha = torch.empty(*scores.shape[:-1], 1, dtype=torch.bfloat16)
    corrections = None if math.fp32_dest else sfpu_steps.corrections(scale, approx=exp_approx)
    call = _Weighing(
        scores=scores.data_ptr(),
        weights=weights.data_ptr(),
        largest=state.largest.data_ptr(),
        sums=state.sums.data_ptr(),
        alpha=alpha.data_ptr(),
        corrections=None if corrections is None else corrections.data_ptr(),
        matrices=scores.shape[0] * scores.shape[1],
        rows=scores.shape[2],
        keys=scores.shape[3],
        all_rows=state.largest.shape[2],
        first=first,
        seen=keys_end,
        scale=scale,
        correction_scale=sfpu_steps.cut_bf16(scale),
        approximate_factor=rules.approx_factor(scale),
        exp_approx=exp_approx,
        fp32_dest=math.fp32_dest,
        phases=math.phases,
        onto=onto,
        threads=kernels.threads(),
    )
    library.attention_weigh(ctypes.byref(call))
    return weights, alpha


def add_outputs(
    library: kernels.Library,
    part: torch.Tensor,
    alpha: torch.Tensor,
    out: torch.Tensor,
    math: Math,
    *,
    first: int,
    onto: bool,
) -> None:
    """Adds a chunk's part [groups, heads, rows, D] to the outputs [groups, heads, Sq, D] from row `first` on, which `alpha`
    multiplies before. The part is Dest values with a float32 Dest, else bfloat16."""
    part = part.contiguous()
    call = _Outputs(
        part=part.data_ptr(),
        out=out.data_ptr(),
        alpha=alpha.data_ptr(),
        matrices=part.shape[0] * part.shape[1],
        rows=part.shape[2],
        width=part.shape[3],
        all_rows=out.shape[2],
        first=first,
        fp32_dest=math.fp32_dest,
        phases=math.phases,
        onto=onto,
        threads=kernels.threads(),
    )
    library.attention_add_outputs(ctypes.byref(call))
