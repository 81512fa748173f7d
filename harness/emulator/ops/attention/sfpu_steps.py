"""The SFPU's part in attention: the kernels' own exponential and reciprocal of row statistics.

Both work on the first column of a tile and differ from `ttnn.exp` and `ttnn.reciprocal`; the facts are those of the kernels
in the ttnn 0.81.1 wheel. Inputs are Dest values or bfloat16 buffers, results Dest values.
"""

from __future__ import annotations

import ctypes
import functools

import torch

from harness.emulator import kernels
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes, rules

_LOG2_E = 1.44269504088896340736
_MINUS_LN2 = -0.69314718055994530942
# e**z for |z| <= ln2 / 2, lowest power first: degree 2 for a bfloat16 Dest, 4 for a float32 one.
_POLYNOMIAL = {
    False: (0.999848792924395313327, 1.01508760098521056685, 0.50628367056745568862),
    True: (
        1.0000001510806179002,
        0.99996228117047652035,
        0.49998365704615426417,
        0.16792157982882225103,
        0.041959439860014343843,
    ),
}


def correction(x: torch.Tensor, scale: float, *, approx: bool, fp32_dest: bool) -> torch.Tensor:
    """exp(scale * x), what earlier sums and outputs are multiplied by when the row maximum grew by -x.

    With `approx` (the program config's exp_approx_mode) it is the exact-mode exponential of the compound functions, without it a
    short polynomial: the names are the kernel's.
    """
    library = kernels.load()
    if library is not None and fp32_dest and not approx:
        return sfpu.compiled(library.sfpu_correction, x, ctypes.c_float(cut_bf16(scale)))
    return _evaluate(_correction_rule(cut_bf16(scale), approx), x, fp32_dest)


@functools.cache
def corrections(scale: float, *, approx: bool) -> torch.Tensor:
    """`correction` with a bfloat16 Dest of every bfloat16, by its bits as a signed number plus 2**15: [65536] in bfloat16."""
    return sfpu.table(_correction_rule(cut_bf16(scale), approx), False).bfloat16()


def register_correction(x: torch.Tensor, scale: float, *, fp32_dest: bool) -> torch.Tensor:
    """`correction` with `approx`, of a float32 x that is still in the SFPU's registers and no Dest value."""
    return lanes.store(_correction(x, fp32_dest, cut_bf16(scale), True), fp32_dest=fp32_dest)


def reciprocal(x: torch.Tensor, *, approx: bool, fp32_dest: bool) -> torch.Tensor:
    """1 / x, rounded after it was scaled; with `approx` (the compute config's math_approx_mode) the store cuts instead."""
    return _evaluate(_reciprocal_rule(approx), x, fp32_dest)


def _evaluate(rule: sfpu.Rule, x: torch.Tensor, fp32_dest: bool) -> torch.Tensor:
    if fp32_dest:
        return lanes.store(rule(x.float(), True), fp32_dest=True)
    index = (x.bfloat16().contiguous().view(torch.int16).int() + 2**15).view(-1)
    return sfpu.table(rule, False).index_select(0, index).view(x.shape)


@functools.cache
def _correction_rule(scale: float, approx: bool) -> sfpu.Rule:
    return functools.partial(_correction, scale=scale, approx=approx)


@functools.cache
def _reciprocal_rule(approx: bool) -> sfpu.Rule:
    return functools.partial(_reciprocal, approx=approx)


def _correction(x: torch.Tensor, fp32_dest: bool, scale: float, approx: bool) -> torch.Tensor:
    scaled = lanes.mul(x, scale)
    if approx:
        return rules.exp_cody_waite(scaled) if fp32_dest else lanes.round_bf16(rules.exp_moroz(scaled))
    whole = lanes.to_int16(lanes.mul(scaled, _LOG2_E)).clamp(-127, 127)
    rest = lanes.mad(whole, _MINUS_LN2, scaled)
    *lower, highest = _POLYNOMIAL[fp32_dest]
    y = torch.full_like(rest, highest)
    for coefficient in reversed(lower):
        y = lanes.mad(rest, y, coefficient)
    power = lanes.with_exponent(torch.zeros_like(y), (whole + 127).long())
    result = torch.where(whole == -127, 0.0, lanes.mul(y, power))
    return result if fp32_dest else lanes.round_bf16(result)


def _reciprocal(x: torch.Tensor, fp32_dest: bool, approx: bool) -> torch.Tensor:
    y = rules.recip_newton(x, 2 if fp32_dest and not approx else 1)
    return y if fp32_dest or approx else lanes.round_bf16(y)


def cut_bf16(scale: float) -> float:
    """The scale as these kernels hold it."""
    return float(torch.tensor([scale]).view(torch.int32).bitwise_and(-0x10000).view(torch.float32))
