"""The SFPU's functions in the steps and constants of ttnn 0.81.1's Wormhole kernels, lane by lane (numerics.md, "SFPU").

A rule takes any float32 `x` and whether Dest has 32 bits, and returns what the kernel gives to SFPSTORE. `sfpu` makes its
tables of them, the compiled kernels repeat the common ones, and composed ops use the parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.emulator.arithmetic.sfpu import lanes

LOG2_E = 1.4426950408889634
_NAN = 0x7FC00000
_INF = 0x7F800000

# The quadratic estimate k0*m**2 - k1*m + k2 of 1/m: the first has the smaller error after one Newton step rounded to
# bfloat16, the second at large.
_SEED_BF16 = (0.32133400440216064453125, 1.4514148235321044921875, 2.1200883388519287109375)
_SEED = (0.3232325017452239990234375, 1.4545459747314453125, 2.121212482452392578125)


def exp(x: Tensor, fp32_dest: bool, scale: float = 1.0) -> Tensor:
    """e**(scale * x), where the kernel holds the scale as a bfloat16."""
    if scale != 1.0:
        x = lanes.mul(x, torch.tensor(scale).bfloat16().item())
    # The hand-written exp kernel holds this coefficient as a half-precision number, the compound functions as a float32.
    return exp_cody_waite(x) if fp32_dest else lanes.round_bf16(exp_moroz(x, 1.001953125))


def exp_approx(x: Tensor, fp32_dest: bool, scale: float = 1.0) -> Tensor:
    """Schraudolph's: the bits of int16(256/ln2 * scale * x + 32500.8), 15 to the left, with the integer's sign."""
    number = lanes.to_int16(lanes.mad(x, approx_factor(scale), 32500.818359375))
    return lanes.with_sign(lanes.from_words(number.abs().long() << 15), number)


def approx_factor(scale: float) -> float:
    """What `exp_approx` multiplies x by: a product of two float32."""
    return (torch.tensor(256 * LOG2_E) * torch.tensor(scale)).item()


def reciprocal(x: Tensor, fp32_dest: bool) -> Tensor:
    return recip_newton(x, 2) if fp32_dest else recip_newton(x, 1, rounded=True)


def rsqrt(x: Tensor, fp32_dest: bool) -> Tensor:
    y, _, rest = _root_estimate(x)
    w = lanes.words(x)
    half = torch.where(lanes.exponent(y) == 0, lanes.words(y), lanes.words(y) - (1 << 23))
    refined = torch.where(w > 0x7FFFFFFF, _nan(x), lanes.mad(rest, lanes.from_words(half), y))
    edge = (w & 0x7FFFFFFF == 0) | (w == _INF)  # 1/0 is Inf of its sign, 1/Inf is 0
    return _rounded(torch.where(edge, lanes.from_words(_INF - w), refined), fp32_dest)


def sqrt(x: Tensor, fp32_dest: bool) -> Tensor:
    _, xy, rest = _root_estimate(x)
    w = lanes.words(x)
    magnitude, negative = w & 0x7FFFFFFF, w > 0x7FFFFFFF
    refined = torch.where(negative | (magnitude < _INF), lanes.mad(rest, lanes.mul(xy, 0.5), xy), xy)
    result = torch.where(magnitude == 0, x, torch.where(negative, _nan(x), refined))
    return _rounded(result, fp32_dest)


def sigmoid(x: Tensor, fp32_dest: bool) -> Tensor:
    return _rounded(_sigmoid(x, fp32_dest), fp32_dest)


def silu(x: Tensor, fp32_dest: bool) -> Tensor:
    return _rounded(lanes.mul(x, _sigmoid(x, fp32_dest)), fp32_dest)


def square(x: Tensor, fp32_dest: bool) -> Tensor:
    result = lanes.mul(x, x)
    return result if fp32_dest else lanes.round_bf16_even(result)


def relu(x: Tensor, fp32_dest: bool) -> Tensor:
    return torch.where(lanes.words(x) > 0x7FFFFFFF, 0.0, x)


def absolute(x: Tensor, fp32_dest: bool) -> Tensor:
    return lanes.from_words(lanes.words(x) & 0x7FFFFFFF)


def neg(x: Tensor, fp32_dest: bool) -> Tensor:
    return lanes.negated(x)


def identity(x: Tensor, fp32_dest: bool) -> Tensor:
    return x


def exp_moroz(x: Tensor, constant: float = 1.0017248) -> Tensor:
    """exp_21f of Moroz et al. (doi 10.1109/MSP.2022.3157460), unrounded: x/ln2 + 127, held in 0..255, as a fixed-point
    number is an exponent and 23 bits of fraction; a parabola over those bits makes 2**fraction."""
    return power_of_two(clamped(lanes.mad(x, LOG2_E, 127.0), 0.0, 255.0), constant)


def power_of_two(biased: Tensor, constant: float = 1.0017248) -> Tensor:
    """2**(biased - 127), for 0 <= biased < 256, as in `exp_moroz`."""
    w = lanes.words(biased)
    significand = w & 0x7FFFFF | 0x800000
    shift = (w >> 23) - 127
    fixed = torch.where(shift >= 0, significand << shift.clamp(0, 31), significand >> (-shift).clamp(0, 31))
    fraction = (fixed & 0x7FFFFF).float()
    inner = lanes.mad(fraction, 4.791750143340323e-15, 7.839635491371155e-08)
    return lanes.with_exponent(lanes.mad(fraction, inner, constant), fixed >> 23)


def exp_cody_waite(x: Tensor) -> Tensor:
    """2**i * e**f with i = round(x/ln2), f = x - i*ln2 in two parts, e**f by a polynomial of degree 6."""
    whole = lanes.to_int16(lanes.mul(x, 1.442695))
    f = lanes.mad(whole, -1.42860677e-6, lanes.mad(whole, -6.93145752e-1, x))
    y = horner(f, 1.0, 4.99999851e-1, 1.66664720e-1, 4.16695364e-2, 8.37312452e-3, 1.37805939e-3)
    r = lanes.mad(y, f, 1.0)
    scaled = lanes.exponent(r) + whole.long()
    # y with its last bit taken off, times 0: NaN where x was NaN or Inf, else 0; overflow adds Inf to that.
    under = lanes.mul(lanes.from_words(lanes.words(y) - 1), 0.0)
    over = lanes.add(under, torch.inf)
    return torch.where(scaled < 1, under, torch.where(scaled < 255, lanes.with_exponent(r, scaled), over))


def recip_newton(x: Tensor, steps: int, *, rounded: bool = False) -> Tensor:
    """1/x: Newton steps on an estimate of 1/m for x's significand m in [1, 2), `rounded` to bfloat16 or not, then x's
    exponent and sign. 1/0 is Inf."""
    k0, k1, k2 = _SEED_BF16 if rounded else _SEED
    w = lanes.words(x)
    minus = lanes.from_words(w & 0x7FFFFF | 0xBF800000)
    y = lanes.mad(lanes.mad(minus, k0, k1), minus, k2)
    for _ in range(steps):
        y = lanes.mad(y, lanes.mad(minus, y, 1.0), y)
    if rounded:
        y = lanes.round_bf16(y)
    # 2**(128 - e), halved: zero gives Inf, Inf zero.
    scale = lanes.mul(lanes.from_words(~w & 0xFF800000), 0.5)
    return lanes.with_sign(lanes.mul(y, scale), x)


def horner(x: Tensor, *coefficients: float) -> Tensor:
    """The polynomial with these coefficients, lowest power first, one multiply-add a power."""
    *rest, top = coefficients
    y = torch.full_like(x, top)
    for coefficient in reversed(rest):
        y = lanes.mad(y, x, coefficient)
    return y


def clamped(x: Tensor, low: float, high: float) -> Tensor:
    """Between two numbers by SFPSWAP, which orders by sign and magnitude: NaN lies beyond Inf."""
    place = order(x)
    x = torch.where(place < order(torch.tensor(low)), low, x)
    return torch.where(place > order(torch.tensor(high)), high, x)


def extreme(x: Tensor, y: Tensor, *, largest: bool) -> Tensor:
    """The larger or the smaller of two by SFPSWAP: -0 lies below +0, NaN of its sign beyond Inf. Broadcasts."""
    x, y = torch.broadcast_tensors(x, y)
    above = order(x) > order(y)
    return torch.where(above if largest else ~above, x, y)


def quotient(x: Tensor, y: Tensor, fp32_dest: bool) -> Tensor:
    """x / y, of one shape. For a bfloat16 Dest x times y's reciprocal, rounded half to even. For a float32 Dest the quotient of
    the significands, corrected once by its residual, and the exponents put back in two factors."""
    if not fp32_dest:
        infinite = lanes.with_sign(torch.full_like(x, torch.inf), x)
        result = torch.where(y == 0, torch.where(x == 0, _nan(x), infinite), lanes.mul(x, recip_newton(y, 2)))
        return lanes.round_bf16_even(result)
    one = torch.full_like(lanes.words(x), 127)
    mx, my = lanes.with_exponent(x, one), lanes.with_exponent(y, one)
    inverse = recip_newton(my, 1)
    q = lanes.mul(mx, inverse)
    q = lanes.mad(lanes.mad(q, lanes.negated(my), mx), inverse, q)
    ex, ey = lanes.exponent(x), lanes.exponent(y)
    exponent = ex - (ey - 127) + lanes.exponent(q)
    half = (exponent & 0xFFFFFFFF) >> 1
    result = lanes.mul(lanes.with_exponent(q, half), lanes.with_exponent(torch.ones_like(x), exponent - half))
    ordinary = (ex >= 1) & (ex < 255) & (ey >= 1) & (ey < 255)
    scale = lanes.from_words(lanes.words(y) & 0xFF800000 ^ _INF)
    edge = torch.where(lanes.words(y) & 0x7FFFFFFF > _INF, y, lanes.mul(x, scale))
    return torch.where(ordinary, result, edge)


def equal_zero(x: Tensor, fp32_dest: bool) -> Tensor:
    return (x == 0).float()


def not_equal_zero(x: Tensor, fp32_dest: bool) -> Tensor:
    return (x != 0).float()


def less_than_zero(x: Tensor, fp32_dest: bool) -> Tensor:
    return (x < 0).float()


def greater_than_zero(x: Tensor, fp32_dest: bool) -> Tensor:
    return (x > 0).float()


def less_equal_zero(x: Tensor, fp32_dest: bool) -> Tensor:
    return (x <= 0).float()


def greater_equal_zero(x: Tensor, fp32_dest: bool) -> Tensor:
    return (x >= 0).float()


def order(x: Tensor) -> Tensor:
    """Integers that rise as SFPSWAP orders x: by sign and magnitude."""
    w = lanes.words(x)
    return torch.where(w > 0x7FFFFFFF, 0x7FFFFFFF - w, w)


def _root_estimate(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y near 1/sqrt(x), x*y and 1 - x*y*y: "SQRT 23 bits" of Kokosinski et al. (doi 10.1007/s11075-024-01932-7)."""
    y = lanes.from_words(0x5F1110A0 - (lanes.words(x) >> 1))
    c = lanes.mul(lanes.negated(y), lanes.mul(x, y))
    y = lanes.mul(y, lanes.mad(c, lanes.add(c, 2.2533049), 2.2825186))
    xy = lanes.mul(x, y)
    return y, xy, lanes.mad(lanes.negated(y), xy, 1.0)


def _sigmoid(x: Tensor, fp32_dest: bool) -> Tensor:
    minus = lanes.negated(x)
    if fp32_dest:
        return recip_newton(lanes.add(exp_cody_waite(minus), 1.0), 2)
    return recip_newton(lanes.add(exp_moroz(minus), 1.0), 1)


def _rounded(y: Tensor, fp32_dest: bool) -> Tensor:
    return y if fp32_dest else lanes.round_bf16(y)


def _nan(like: Tensor) -> Tensor:
    return lanes.from_words(torch.full(like.shape, _NAN, dtype=torch.int64))
