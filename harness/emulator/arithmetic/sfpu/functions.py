"""Functions of the SFPU on Dest values: what the kernel of each stores to Dest (numerics.md, "SFPU").

Results are Dest values in float32 or, where `dtype` asks for bfloat16, what the packer writes of them to BFLOAT16. A bfloat16
Dest, or a bfloat16 tensor, holds one of 65,536 values, so results come from a table, made once; else from compiled kernels, or
from the rules in torch.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from harness.emulator import kernels
from harness.emulator.arithmetic import formats
from harness.emulator.arithmetic.sfpu import gelu, lanes, rules
from harness.emulator.spec.types import DataType

Rule = Callable[[Tensor, bool], Tensor]

# By ttnn's lower-case name of the activation.
RULES: dict[str, Rule] = {
    "silu": rules.silu,
    "gelu": gelu.gelu,
    "gelu_tanh": gelu.gelu_tanh,
    "relu": rules.relu,
    "sigmoid": rules.sigmoid,
    "tanh": gelu.tanh,
    "exp": rules.exp,
    "sqrt": rules.sqrt,
    "rsqrt": rules.rsqrt,
    "recip": rules.reciprocal,
    "abs": rules.absolute,
    "square": rules.square,
    "neg": rules.neg,
    "identity": rules.identity,
    "eqz": rules.equal_zero,
    "nez": rules.not_equal_zero,
    "ltz": rules.less_than_zero,
    "gtz": rules.greater_than_zero,
    "lez": rules.less_equal_zero,
    "gez": rules.greater_equal_zero,
}
_COMPILED = {
    "silu": "sfpu_silu",
    "sigmoid": "sfpu_sigmoid",
    "rsqrt": "sfpu_rsqrt",
    "recip": "sfpu_reciprocal",
}


def apply(name: str, x: Tensor, *, fp32_dest: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    """The function of this name (a key of `RULES`), any shape."""
    if name == "exp":
        return exp(x, fp32_dest=fp32_dest, dtype=dtype)
    rule = RULES[name]
    if not fp32_dest or x.dtype is torch.bfloat16:
        return _looked_up(table(rule, fp32_dest, dtype), x)
    library = kernels.load() if name in _COMPILED else None
    if library is None:
        return _as(lanes.store(rule(x, True), fp32_dest=True), dtype)
    return _as(compiled(getattr(library, _COMPILED[name]), x), dtype)


def exp(
    x: Tensor,
    *,
    fp32_dest: bool,
    approx: bool = False,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """e**(scale * x). `approx` is Schraudolph's, meant for x <= 0: within 3.1%; below -88 it comes out negative (the packer's
    ReLU clears that), above 0.69 it saturates."""
    rule = _exp_rule(approx, scale)
    if not fp32_dest or x.dtype is torch.bfloat16:
        return _looked_up(table(rule, fp32_dest, dtype), x)
    library = kernels.load()
    if library is None:
        return _as(lanes.store(rule(x, True), fp32_dest=True), dtype)
    if approx:
        factor = ctypes.c_float(rules.approx_factor(scale))
        return _as(compiled(library.sfpu_exp_approximate, x, factor), dtype)
    factor = ctypes.c_float(torch.tensor(scale).bfloat16().item())
    return _as(compiled(library.sfpu_exp, x, factor, int(scale != 1.0)), dtype)


def exp_of_product(x: Tensor, factor: float) -> Tensor:
    """e**(factor * x) of float32 Dest values: the factor is a float32, where `exp` cuts its scale to bfloat16."""
    library = kernels.load()
    if library is None:
        return lanes.store(rules.exp(lanes.mul(x, factor), True), fp32_dest=True)
    return compiled(library.sfpu_exp, x, ctypes.c_float(factor), 1)


def reciprocal(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """1 / x; 1/0 is Inf."""
    return apply("recip", x, fp32_dest=fp32_dest)


def rsqrt(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """1 / sqrt(x); negative numbers give NaN, which a bfloat16 Dest holds as Inf."""
    return apply("rsqrt", x, fp32_dest=fp32_dest)


def sigmoid(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply("sigmoid", x, fp32_dest=fp32_dest)


def silu(x: Tensor, *, fp32_dest: bool) -> Tensor:
    """x * sigmoid(x), the sigmoid unrounded."""
    return apply("silu", x, fp32_dest=fp32_dest)


@functools.lru_cache(maxsize=64)
def table(rule: Rule, fp32_dest: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    """What `rule` leaves in Dest for every bfloat16, by its bits as a signed number plus 2**15: [65536] of `dtype`."""
    every = (torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16).view(torch.float32)
    return _as(lanes.store(rule(every, fp32_dest), fp32_dest=fp32_dest), dtype)


@functools.cache
def _exp_rule(approx: bool, scale: float) -> Rule:
    """One object per setting, for `table` to remember."""
    return functools.partial(rules.exp_approx if approx else rules.exp, scale=scale)


def _looked_up(values: Tensor, x: Tensor) -> Tensor:
    if x.dtype is torch.bfloat16:
        index = x.contiguous().view(torch.int16).int()
    else:
        index = x.float().contiguous().view(torch.int32) >> 16
    return values.index_select(0, index.add_(2**15).view(-1)).view(x.shape)


def compiled(function: Callable[..., None], x: Tensor, *options: object) -> Tensor:
    """What a kernel of sfpu.cpp makes of each value of x, in float32."""
    x = x.float().contiguous()
    y = torch.empty_like(x)
    pointers = ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr())
    function(*pointers, ctypes.c_long(x.numel()), kernels.threads(), *options)
    return y


def _as(dest: Tensor, dtype: torch.dtype) -> Tensor:
    return dest if dtype is torch.float32 else formats.pack_round(dest, DataType.BFLOAT16)
