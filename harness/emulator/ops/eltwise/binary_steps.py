"""Binary elementwise ops as the device computes them, in modes DEVICE and EXACT (numerics.md, "Eltwise / reduce").

Two operands of FLOAT32 meet on the SFPU, and so does every product unless `fast_and_approximate_mode` asks for the matrix unit;
sums and differences of the rest are the matrix unit's. The Dest has 32 bits where an operand or the result is FLOAT32.
Comparisons meet on the SFPU in two BFLOAT16 or two FLOAT32; of other formats the sign of the matrix unit's difference is asked.
`maximum`, `minimum` and quotients are the SFPU's; `rsub` adds the negated first operand. Which of the kernels an op takes is read off the ones ttnn 0.81.1 compiles for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.emulator.arithmetic import formats, fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes, rules
from harness.emulator.spec.types import DataType, MathFidelity

_FP32 = DataType.FLOAT32
# Both zeros are equal, NaN is unlike everything: as the kernels have it, and IEEE 754.
COMPARISONS = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "gt": torch.gt,
    "le": torch.le,
    "ge": torch.ge,
}
EXTREMES = {"maximum": torch.maximum, "minimum": torch.minimum}


@dataclass(frozen=True)
class Binary:
    """One "add", "subtract", "multiply", comparison or extreme: the formats of a, b and the result, and what is fused into it.

    Activations are names of `sfpu.RULES`. `fpu_multiply`: the product is the matrix unit's.
    """

    kind: str
    a: DataType
    b: DataType
    out: DataType
    fpu_multiply: bool = False
    before_a: Sequence[str] = ()
    before_b: Sequence[str] = ()
    after: Sequence[str] = ()

    @property
    def fp32_dest(self) -> bool:
        return _FP32 in (self.a, self.b, self.out)

    @property
    def on_sfpu(self) -> bool:
        if self.kind in COMPARISONS:
            return self.a is self.b and self.a in (DataType.BFLOAT16, _FP32)
        both_fp32 = self.a is self.b is _FP32
        return (
            both_fp32
            or self.kind in (*EXTREMES, "divide")
            or (self.kind == "multiply" and not self.fpu_multiply)
        )

    def packed(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The op on two shards: what its packer writes."""
        for name in self.before_a:
            x = self._through_buffer(name, x, self.a)
        for name in self.before_b:
            y = self._through_buffer(name, y, self.b)
        narrow = not self.after and (self.out is DataType.BFLOAT16 or not self.fp32_dest)
        dtype = torch.bfloat16 if narrow else torch.float32
        result = self._on_sfpu(x, y, dtype) if self.on_sfpu else self._on_fpu(x, y, dtype)
        if result.dtype is torch.bfloat16 and self.out is DataType.BFLOAT16:
            return result  # packed already
        for name in self.after:
            result = sfpu.apply(name, result, fp32_dest=self.fp32_dest)
        return formats.pack_round(result, self.out)

    def _through_buffer(self, name: str, x: torch.Tensor, dtype: DataType) -> torch.Tensor:
        """An activated operand is packed in its own format before the op reads it."""
        if dtype is DataType.BFLOAT16:
            return sfpu.apply(name, x, fp32_dest=self.fp32_dest, dtype=torch.bfloat16)
        return formats.pack_round(sfpu.apply(name, x, fp32_dest=self.fp32_dest), dtype)

    def _on_sfpu(self, x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.kind in COMPARISONS:
            return COMPARISONS[self.kind](_normal(x), _normal(y)).to(dtype)
        if self.kind in EXTREMES:
            return rules.extreme(x.float(), y.float(), largest=self.kind == "maximum").to(dtype)
        if self.kind == "divide":
            a, b = torch.broadcast_tensors(x.float(), y.float())
            return rules.quotient(a, b, self.fp32_dest).to(dtype)
        if self.kind == "rsub":
            return lanes.add(y, -x)
        if self.kind == "multiply":
            return fpu.sfpu_multiply(x, y, fp32_dest=self.fp32_dest, dtype=dtype)
        return lanes.add(x, y if self.kind == "add" else -y)

    def _on_fpu(self, x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.kind == "multiply":
            return fpu.multiply(x, y, Math(MathFidelity.HiFi4, self.fp32_dest), dtype=dtype)
        if self.kind in COMPARISONS:
            difference = fpu.subtract(x, y, fp32_dest=self.fp32_dest)
            return COMPARISONS[self.kind](difference, torch.zeros(())).to(dtype)
        if self.kind == "rsub":
            x = lanes.negated(x.float()).to(x.dtype)
        combine = fpu.add if self.kind in ("add", "rsub") else fpu.subtract
        return combine(x, y, fp32_dest=self.fp32_dest, dtype=dtype)


def _normal(x: torch.Tensor) -> torch.Tensor:
    """The kernels of comparisons add the magnitudes up first, which makes zeros of denormals."""
    return torch.where(x.abs() < 2.0**-126, torch.zeros((), dtype=x.dtype), x)
