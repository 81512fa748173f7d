"""Binary elementwise ops: `ttnn.add`, `subtract`, `multiply`, `divide`, `rsub`, with broadcasting, mixed dtypes and fused activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from harness.emulator.arithmetic import fidelity
from harness.emulator.arithmetic.mode import Mode, current
from harness.emulator.errors import refuse
from harness.emulator.ops.eltwise.binary_steps import COMPARISONS, EXTREMES, Binary
from harness.emulator.ops.eltwise.bounds import bounded
from harness.emulator.ops.eltwise.unary import activation_function, activation_name, function_name
from harness.emulator.ops.placement.typecast import typecast
from harness.emulator.ops.rounding import packed
from harness.emulator.runtime.dispatch import op
from harness.emulator.runtime.execution import make_tensor, write
from harness.emulator.runtime.tensor import Compute, Tensor, device_of, require_device
from harness.emulator.spec.geometry import Shape
from harness.emulator.spec.memory_config import MemoryConfig
from harness.emulator.spec.program_configs import UnaryWithParam
from harness.emulator.spec.types import DataType, Layout, MathFidelity, UnaryOpType

Scalar = int | float
_MASKS = {DataType.UINT32: 0xFFFFFFFF, DataType.UINT16: 0xFFFF}
Activation = UnaryOpType | UnaryWithParam
_Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_FLOATS = frozenset((DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B, DataType.BFLOAT4_B))
_FP32 = DataType.FLOAT32
# A product of these and a fractional number, or of a float tensor, is taken in floating point.
_PROMOTED = frozenset((DataType.UINT32, DataType.INT32))


def combining(kind: str, name: str, compute: _Compute, on_fpu: bool) -> Callable[..., Tensor]:
    """The function of a binary op; `kind` as in `binary_steps`, `on_fpu` is ttnn's default for `fast_and_approximate_mode`."""

    def binary(
        input_tensor_a: Tensor | Scalar,
        input_tensor_b: Tensor | Scalar,
        *,
        fast_and_approximate_mode: bool = on_fpu,
        dtype: DataType | None = None,
        memory_config: MemoryConfig | None = None,
        output_tensor: Tensor | None = None,
        activations: Sequence[Activation] = (),
        input_tensor_a_activations: Sequence[Activation] = (),
        input_tensor_b_activations: Sequence[Activation] = (),
    ) -> Tensor:
        def steps(da: DataType, db: DataType, out: DataType) -> Binary | None:
            if da not in _FLOATS or current() is Mode.FAST:
                return None
            names = ([function_name(name, each) for each in some] for some in fused)
            return Binary(kind, da, db, out, fast_and_approximate_mode, *names)

        a, b = input_tensor_a, input_tensor_b
        fused = input_tensor_a_activations, input_tensor_b_activations, activations
        if any(isinstance(each, str) for some in fused for each in some):
            raise TypeError(f"{name}: activations are UnaryOpType or UnaryWithParam, not strings: {fused}")
        if kind in (*COMPARISONS, *EXTREMES) and not isinstance(a, Tensor):
            raise TypeError(f"{name}: the first operand must be a ttnn.Tensor, got {a!r}")
        if kind in EXTREMES and isinstance(a, Tensor):
            _check_extreme(name, a, b)
            if isinstance(b, int | float):
                if (dtype or a.dtype) is not a.dtype:
                    refuse(
                        name, f"the emulator does not model a result of {dtype} with a number; typecast it"
                    )
                low, high = (b, None) if kind == "maximum" else (None, b)
                return bounded(name, a, low, high, memory_config, output_tensor)
        if kind in COMPARISONS and any(isinstance(x, Tensor) and x.dtype is DataType.UINT8 for x in (a, b)):
            refuse(name, "the emulator does not model a comparison of UINT8; typecast it")
        if kind == "divide" and any(isinstance(x, Tensor) and x.dtype not in _FLOATS for x in (a, b)):
            refuse(name, "the emulator does not model quotients of integers; typecast them")
        for x in (a, b):
            if isinstance(x, Tensor) and x.config.sharded and x.layout is Layout.ROW_MAJOR:
                refuse(name, "the emulator does not model a sharded ROW_MAJOR operand")
            if isinstance(x, Tensor) and x.dtype not in _FLOATS:
                _check_integer(name, x, activations, input_tensor_a_activations, input_tensor_b_activations)
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            x, scalar = (a, b) if isinstance(a, Tensor) else (b, a)
            if isinstance(x, Tensor):
                if kind == "multiply" and isinstance(scalar, float) and x.dtype in _PROMOTED:
                    x = typecast(x, _FP32)
                _check_result(name, x.dtype, dtype or x.dtype, fast_and_approximate_mode or not on_fpu)
            reverse = not isinstance(a, Tensor)
            return _with_scalar(
                name, compute, steps, fused, x, scalar, dtype, memory_config, output_tensor, reverse
            )
        require_device(name, a, b)
        da, db = a.dtype, b.dtype
        if da is not db and (da not in _FLOATS or db not in _FLOATS):
            promoted = kind == "multiply" and _FLOATS & {da, db} and _PROMOTED & {da, db}
            supported = (
                "the emulator does not model mixed dtypes" if promoted else "mixed dtypes are not supported:"
            )
            refuse(name, f"{supported} {da} and {db}")
        shape = a.shape if a.shape == b.shape else _broadcast_shape(name, a.shape, b.shape)
        for x, other in ((a, b), (b, a)):
            # ttnn cuts the shards anew, or lays the result out otherwise.
            apart = x.shape != shape or (x is b and a.shape != b.shape and not other.config.sharded)
            if x.config.sharded and apart and memory_config is None and output_tensor is None:
                refuse(
                    name,
                    f"the emulator does not model {list(a.shape)} with {list(b.shape)}, one of them sharded; "
                    "give memory_config=",
                )
        out_dtype = dtype or (output_tensor.dtype if output_tensor is not None else da)
        mixed = (da is _FP32) is not (db is _FP32)
        # Two FLOAT32 operands meet on the SFPU whatever is asked for.
        fpu_multiply = fast_and_approximate_mode and not on_fpu and not da is db is _FP32
        fp32_dest = _FP32 in (da, db, out_dtype)
        _check_result(name, da, out_dtype, fast_and_approximate_mode or not on_fpu)
        exactly = steps(da, db, out_dtype)

        def combine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            if exactly is not None:
                return exactly.packed(x, y)
            if input_tensor_a_activations:
                x = _activated(name, x, input_tensor_a_activations)
            if input_tensor_b_activations:
                y = _activated(name, y, input_tensor_b_activations)
            if da not in _FLOATS:
                return _in_range(compute(x, y), da)
            if fpu_multiply:
                x, y = fidelity.eltwise_operands(x, y, MathFidelity.HiFi4, fp32_dest=fp32_dest)
            elif mixed and on_fpu:
                x, y = _fpu_operands(x), _fpu_operands(y)
            return _finish(name, compute, x, y, activations, out_dtype, on_fpu or fpu_multiply)

        def shards() -> list[torch.Tensor]:
            return list(map(combine, a.shards, b.shards))

        if output_tensor is not None:
            return _write(name, output_tensor, shards, shape)
        config = memory_config or (b.config if b.config.sharded and not a.config.sharded else a.config)
        if config.sharded and config.shard_spec is None:
            config = config.with_shard_spec((a if a.config.sharded else b).config.shard_spec)
        layout = Layout.TILE if Layout.TILE in (a.layout, b.layout) else Layout.ROW_MAJOR
        return make_tensor(name, shards, shape, out_dtype, layout, config, device_of(a))

    return binary


add = op("ttnn.add")(combining("add", "ttnn.add", torch.add, True))
subtract = op("ttnn.subtract", "ttnn.sub")(combining("subtract", "ttnn.subtract", torch.sub, True))
multiply = op("ttnn.multiply", "ttnn.mul")(combining("multiply", "ttnn.multiply", torch.mul, False))
divide = op("ttnn.divide", "ttnn.div")(combining("divide", "ttnn.divide", torch.div, False))
rsub = op("ttnn.rsub")(combining("rsub", "ttnn.rsub", torch.rsub, True))


def _check_extreme(name: str, a: Tensor, b: Tensor | Scalar) -> None:
    if a.dtype is DataType.UINT16:
        refuse(name, f"dtype {a.dtype} is not supported")
    if isinstance(b, Tensor) and b.dtype is not a.dtype:
        refuse(name, f"mixed dtypes are not supported: {a.dtype} and {b.dtype}")


def _check_integer(name: str, x: Tensor, *fused: Sequence[Activation]) -> None:
    if x.dtype is DataType.UINT8:
        refuse(name, f"dtype {x.dtype} is not supported")
    if any(fused):
        refuse(name, f"the emulator does not model activations of an integer operand, {x.dtype}")


def _check_result(name: str, operand: DataType, result: DataType, fast: bool) -> None:
    if not fast and result is not DataType.BFLOAT16:
        refuse(name, f"fast_and_approximate_mode=False is for a BFLOAT16 result only, not {result}")
    if result is not operand and not (operand in _FLOATS and result in _FLOATS):
        refuse(
            name, f"the emulator does not model a result of {result} from operands of {operand}; typecast it"
        )


def _finish(
    name: str,
    compute: _Compute,
    x: torch.Tensor,
    y: torch.Tensor,
    activations: Sequence[Activation],
    dtype: DataType,
    half_away: bool,
) -> torch.Tensor:
    """The op in float32, rounded once: half away from zero on the FPU, half to even (then packed) on the SFPU."""
    if half_away or activations or dtype is _FP32:
        result = compute(x.float(), y)
        for activation in activations:
            result = activation_function(name, activation_name(activation))(result)
        return packed(result, dtype)
    result = compute(x, y)
    if result.dtype is torch.float32:
        result = result.bfloat16()
    return packed(result, dtype)


def _fpu_operands(x: torch.Tensor) -> torch.Tensor:
    """An fp32 operand of the FPU is cut to TF32; it enters add and subtract whole (numerics.md, "Eltwise")."""
    if x.dtype is not torch.float32:
        return x
    return (x.view(torch.int32) & -8192).view(torch.float32)


def _activated(name: str, x: torch.Tensor, activations: Sequence[Activation]) -> torch.Tensor:
    """An activated operand goes through a buffer of bf16 (fp32 for an fp32 operand) before the op."""
    for activation in activations:
        x = activation_function(name, activation_name(activation))(x)
    return x


def _with_scalar(
    name: str,
    compute: _Compute,
    steps: Callable[[DataType, DataType, DataType], Binary | None],
    fused: tuple[Sequence[Activation], ...],
    a: Tensor | Scalar,
    scalar: Tensor | Scalar,
    dtype: DataType | None,
    memory_config: MemoryConfig | None,
    output: Tensor | None,
    reverse: bool,
) -> Tensor:
    if not isinstance(a, Tensor) or isinstance(scalar, Tensor) or not isinstance(scalar, int | float):
        raise TypeError(
            f"{name}: needs a ttnn.Tensor and a tensor or number, got {type(a).__name__} and {scalar!r}"
        )
    require_device(name, a)
    out_dtype = dtype or a.dtype
    if a.dtype not in _FLOATS and not (math.isfinite(scalar) and scalar == int(scalar)):
        if a.dtype in _PROMOTED:
            refuse(
                name, f"{a.dtype} cannot represent the number {scalar}; typecast the tensor to a float format"
            )
        refuse(name, f"the emulator does not model the number {scalar} with {a.dtype}")
    if a.dtype not in _FLOATS and not -(2**31) <= scalar < 2**32:
        refuse(name, f"{a.dtype} cannot represent the number {scalar}")
    exactly = steps(a.dtype, a.dtype, out_dtype)

    def combine(x: torch.Tensor) -> torch.Tensor:
        if a.dtype not in _FLOATS:
            number = torch.tensor(int(scalar) & 0xFFFFFFFF, dtype=torch.int64).to(x.dtype)
            return _in_range(compute(number, x) if reverse else compute(x, number), a.dtype)
        # The scalar is an operand in the tensor's own format.
        number = (
            torch.tensor(float(scalar))
            if x.dtype is torch.float32
            else torch.tensor(scalar).bfloat16().float()
        )
        if exactly is not None:
            pair = (number.to(x.dtype), x) if reverse else (x, number.to(x.dtype))
            return exactly.packed(*pair)
        left, right = (number, x) if reverse else (x, number)
        left, right = _activated(name, left, fused[0]), _activated(name, right, fused[1])
        return packed(_activated(name, compute(left.float(), right.float()), fused[2]), out_dtype)

    def shards() -> list[torch.Tensor]:
        return [combine(x) for x in a.shards]

    if output is not None:
        return _write(name, output, shards, a.shape)
    return make_tensor(name, shards, a.shape, out_dtype, a.layout, memory_config or a.config, device_of(a))


def _in_range(x: torch.Tensor, dtype: DataType) -> torch.Tensor:
    """Unsigned integers wrap as their number of bits does; torch's int32 wraps by itself."""
    return x & _MASKS[dtype] if dtype in _MASKS else x


def _broadcast_shape(name: str, a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    for x, y in zip(left, right, strict=True):
        if x != y and x != 1 and y != 1:
            refuse(name, f"shapes {list(a)} and {list(b)} do not broadcast")
    return Shape(max(x, y) for x, y in zip(left, right, strict=True))


def _write(name: str, output: Tensor, shards: Compute, shape: Shape) -> Tensor:
    require_device(name, output)
    if output.shape != shape:
        refuse(name, f"output_tensor has shape {list(output.shape)}, the result {list(shape)}")

    def copy() -> None:
        for mine, new in zip(output.shards, shards(), strict=True):
            mine.copy_(new)

    return write(name, output, copy)
