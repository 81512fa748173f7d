"""GELU and tanh in the steps and constants of ttnn 0.81.1's Wormhole kernels: rules as in `sfpu_rules`.

The ground truth has no vectors of these two; what they are held to is the true function, within the ulp the kernels claim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.arithmetic.sfpu.rules import clamped, horner, power_of_two, recip_newton

_SATURATED = -5.54259443  # from here down the kernels answer 0
_HALF_ULP = 2.0**-25

# Polynomials, lowest power first. |x| in; x*_TANH(|x|) is tanh.
_TANH = (
    0.999004364013671875,
    3.0897438526153564453125e-2,
    -0.4890659749507904052734375,
    0.281917631626129150390625,
    -6.6649019718170166015625e-2,
    5.876733921468257904052734375e-3,
)
_EXPM1 = (0.5, 1.666667163e-1, 4.166680202e-2, 8.331298828e-3, 1.393318176e-3, 1.974105835e-4)
# x**2 in: Phi(x) = 1/2 + x * polynomial.
_PHI = (
    3.9894227818e-01,
    -6.6361041488e-02,
    9.7720050615e-03,
    -1.0717806322e-03,
    8.1812159812e-05,
    -3.8082057209e-06,
    7.9821413868e-08,
)
# x in, for x < 0: erfc(|x|/sqrt(2)) / 2, over exp(-x**2/2).
_TAIL = (3.0369991064e-01, 9.5413386822e-02, 1.3809983619e-02, 7.5950479368e-04)
# x**2 in: erf(x) = x * numerator / denominator.
_ERF_NUMERATOR = (
    1.1283791065e00,
    2.1477432549e-01,
    6.2133435160e-02,
    5.6230435148e-03,
    6.1307044234e-04,
    1.7678321456e-05,
    2.7384647439e-08,
    -2.8632063387e-10,
)
_ERF_DENOMINATOR = (
    1.0,
    5.2367275953e-01,
    1.2961706519e-01,
    1.9642570987e-02,
    1.9545555115e-03,
    1.3179056987e-04,
    1.3156344494e-06,
    -3.5153888689e-09,
    -6.7350725691e-12,
)


def gelu(x: Tensor, fp32_dest: bool) -> Tensor:
    """x * Phi(x)."""
    return _gelu_fp32(x) if fp32_dest else lanes.round_bf16(_gelu_bf16(x))


def gelu_tanh(x: Tensor, fp32_dest: bool) -> Tensor:
    """x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715*x**3)))."""
    inner = lanes.mul(x, lanes.mad(lanes.mul(x, x), 0.044715, 1.0))
    half = lanes.mul(x, 0.5)
    result = lanes.mad(half, _tanh_fp32(lanes.mul(inner, 0.7978845608028654)), half)
    return result if fp32_dest else lanes.round_bf16(result)


def tanh(x: Tensor, fp32_dest: bool) -> Tensor:
    """A polynomial of |x| cut off at 1, or with a float32 Dest expm1(2|x|)/2 =: t as t/(t + 1)."""
    if fp32_dest:
        return _tanh_fp32(x)
    magnitude = x.abs()
    y = clamped(lanes.mul(horner(magnitude, *_TANH), magnitude), 0.0, 1.0)
    return lanes.round_bf16(lanes.with_sign(y, x))


def _tanh_fp32(x: Tensor) -> Tensor:
    twice = lanes.add(x, x).abs()
    whole = lanes.to_int16(lanes.mul(x, 2 * 1.442695)).abs().clamp(max=255)
    f = lanes.mad(whole, -0.6931471805599453, twice)
    r = lanes.mad(horner(f, *_EXPM1), lanes.mul(f, f), f)
    scale = lanes.with_exponent(torch.zeros_like(r), whole.long() + 126)
    t = lanes.mad(r, scale, lanes.add(scale, -0.5))
    over = lanes.add(t, 1.0)
    # The last bit taken off makes a*0 + 1 a NaN only where x is NaN.
    saturated = lanes.mad(lanes.from_words(lanes.words(twice) - 1), 0.0, 1.0)
    minus = lanes.from_words(0xFEF30000 - lanes.words(over))  # near -1/over
    error = lanes.mad(over, minus, 1.0)
    minus = lanes.mad(minus, lanes.mad(error, error, error), minus)
    quotient = lanes.mul(t, minus)
    corrected = lanes.mad(lanes.mad(over, quotient, t), minus, quotient)
    tiny = lanes.exponent(x) < 115
    return lanes.with_sign(torch.where(whole < 61, torch.where(tiny, x, corrected), saturated), x)


def _gelu_bf16(x: Tensor) -> Tensor:
    squared = lanes.mul(x, x)
    gauss = power_of_two(clamped(lanes.mad(squared, -0.72134752044, 127.0), 0.0, 255.0))
    tail = lanes.mul(gauss, horner(x, *_TAIL))
    tail = lanes.add(lanes.add(tail, 0.375), -0.375)  # to multiples of 2**-25
    core = lanes.mad(x, horner(squared, *_PHI), 0.5)
    result = torch.where(x >= -3.125, lanes.mul(x, core), lanes.mul(x, tail))
    return torch.where(x >= 2.78125, x, torch.where(x > _SATURATED, result, 0.0))


def _gelu_fp32(x: Tensor) -> Tensor:
    scaled = lanes.mul(x, 0.7071067811865475)
    scaled = torch.where(scaled > 10.0, 10.0, scaled)
    squared = lanes.mul(scaled, scaled)
    numerator = lanes.mul(horner(squared, *_ERF_NUMERATOR), scaled)
    erf = lanes.mul(numerator, recip_newton(horner(squared, *_ERF_DENOMINATOR), 2))
    erf = clamped(erf, -1.0, 1.0)
    result = lanes.mul(x, lanes.mad(erf, 0.5, 0.5))
    result = torch.where(erf == -1.0, lanes.mul(x, _HALF_ULP), result)
    return torch.where(x > _SATURATED, result, lanes.add(x, lanes.negated(x)))
