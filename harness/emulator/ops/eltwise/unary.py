"""Elementwise functions of one tensor: `ttnn.silu` and its kin, and the activations fused into other ops."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from harness.emulator.arithmetic import formats
from harness.emulator.arithmetic.mode import Mode, current
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.errors import refuse
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import same_spec, write
from harness.emulator.runtime.tensor import Tensor, output_config, require_device
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import UnaryWithParam
from harness.emulator.spec.types import DataType, Layout, UnaryOpType

# Computed in float32, as on the SFPU's lanes, and rounded to the input's torch dtype (torch does both for bfloat16).
_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "recip": torch.reciprocal,
    "abs": torch.abs,
    "square": torch.square,
    "neg": torch.neg,
    "identity": lambda x: x,
    "eqz": lambda x: (x == 0).to(x.dtype),
    "nez": lambda x: (x != 0).to(x.dtype),
    "ltz": lambda x: (x < 0).to(x.dtype),
    "gtz": lambda x: (x > 0).to(x.dtype),
    "lez": lambda x: (x <= 0).to(x.dtype),
    "gez": lambda x: (x >= 0).to(x.dtype),
}


def activation_name(activation: str | UnaryWithParam | UnaryOpType) -> str:
    """The lower-case name of a fused activation, however it was given."""
    if isinstance(activation, UnaryWithParam):
        activation = activation.op_type
    return activation if isinstance(activation, str) else activation.name.lower()


def activation_function(op_name: str, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Mode `fast`'s function of that name."""
    function = _FUNCTIONS.get(name)
    if function is None:
        refuse(op_name, f"activation {name!r} is not one of {', '.join(sorted(_FUNCTIONS))}")
    return function


def function_name(op_name: str, activation: str | UnaryWithParam | UnaryOpType) -> str:
    """The name by which `sfpu.apply` knows a fused activation; refuses those it does not."""
    name = activation_name(activation)
    if name not in sfpu.RULES:
        refuse(op_name, f"activation {name!r} is not one of {', '.join(sorted(sfpu.RULES))}")
    return name


def _on_sfpu(name: str, x: torch.Tensor, dtype: DataType) -> torch.Tensor:
    """The function as the device computes and packs it; the Dest has 32 bits for FLOAT32."""
    if dtype is DataType.BFLOAT16:
        return sfpu.apply(name, x, fp32_dest=False, dtype=torch.bfloat16)
    return formats.pack_round(sfpu.apply(name, x, fp32_dest=dtype is DataType.FLOAT32), dtype)


_UNSIGNED = (DataType.UINT32, DataType.UINT16, DataType.UINT8)
# Of integers ttnn takes these; a square keeps the low bits.
_OF_INTEGERS = {
    "abs": (DataType.INT32, *_UNSIGNED),
    "relu": (DataType.INT32, *_UNSIGNED),
    "square": (DataType.INT32, DataType.UINT32, DataType.UINT16),
    "neg": (DataType.INT32,),
    "eqz": (DataType.INT32, DataType.UINT32, DataType.UINT16),
    "nez": (DataType.INT32, DataType.UINT32, DataType.UINT16),
    **dict.fromkeys(("ltz", "gtz", "lez", "gez"), (DataType.INT32,)),
}
_MASKS = {DataType.UINT32: 0xFFFFFFFF, DataType.UINT16: 0xFFFF}


def _of_integer(name: str, x: torch.Tensor, dtype: DataType) -> torch.Tensor:
    """On the shard's own integers: storage of an unsigned dtype is wide enough to be signed."""
    if dtype in _UNSIGNED and name in ("abs", "relu"):
        return x.clone()
    result = _FUNCTIONS[name](x.long())
    return (result & _MASKS[dtype] if dtype in _MASKS else result).to(x.dtype)


def activated(
    op_name: str, x: Tensor, activation: str | UnaryWithParam | UnaryOpType, output: Tensor | None
) -> Tensor:
    """An activation as an op of its own, as `op_name` runs it on its result; into `output` if given."""
    return _applied(op_name, activation_name(activation), x, None, output)


def _applied(
    op_name: str, name: str, x: Tensor, memory_config: MemoryConfig | None, output: Tensor | None
) -> Tensor:
    require_device(op_name, x)
    if x.config.sharded and x.layout is Layout.ROW_MAJOR:
        refuse(op_name, "the emulator does not model a sharded ROW_MAJOR operand")
    whole = x.dtype in _OF_INTEGERS.get(name, ())
    if not whole and x.dtype not in (
        DataType.BFLOAT16,
        DataType.FLOAT32,
        DataType.BFLOAT8_B,
        DataType.BFLOAT4_B,
    ):
        refuse(op_name, f"dtype {x.dtype} is not a floating point format")
    dtype = x.dtype
    fast = current() is Mode.FAST
    function = activation_function(op_name, name)
    function_name(op_name, name)

    def shards() -> list[torch.Tensor]:
        if whole:
            return [_of_integer(name, s, dtype) for s in x.shards]
        if fast:
            return [packed(function(s), dtype) for s in x.shards]
        return [_on_sfpu(name, s, dtype) for s in x.shards]

    if output is None:
        return same_spec(op_name, x, shards, output_config(x, memory_config))
    require_device(op_name, output)
    if (output.shape, output.dtype, output.layout) != (x.shape, dtype, x.layout):
        refuse(op_name, f"output tensor {output!r} must have the result's spec, {x!r}")

    def copy() -> None:
        for mine, new in zip(output.shards, shards(), strict=True):
            mine.copy_(new)

    return write(op_name, output, copy)


def _unary(op_name: str, name: str) -> Callable[..., Tensor]:
    @op(op_name)
    def unary(
        input_tensor: Tensor,
        *,
        memory_config: MemoryConfig | None = None,
        output_tensor: Tensor | None = None,
    ) -> Tensor:
        return _applied(op_name, name, input_tensor, memory_config, output_tensor)

    return unary


silu = _unary("ttnn.silu", "silu")
gelu = _unary("ttnn.gelu", "gelu")
relu = _unary("ttnn.relu", "relu")
sigmoid = _unary("ttnn.sigmoid", "sigmoid")
tanh = _unary("ttnn.tanh", "tanh")
exp = _unary("ttnn.exp", "exp")
sqrt = _unary("ttnn.sqrt", "sqrt")
rsqrt = _unary("ttnn.rsqrt", "rsqrt")
reciprocal = _unary("ttnn.reciprocal", "recip")
absolute = _unary("ttnn.abs", "abs")
square = _unary("ttnn.square", "square")
neg = _unary("ttnn.neg", "neg")
logical_not = _unary("ttnn.logical_not", "eqz")
eqz = _unary("ttnn.eqz", "eqz")
nez = _unary("ttnn.nez", "nez")
ltz = _unary("ttnn.ltz", "ltz")
gtz = _unary("ttnn.gtz", "gtz")
lez = _unary("ttnn.lez", "lez")
gez = _unary("ttnn.gez", "gez")
