"""Binary elementwise ops as the device computes them, in modes DEVICE and EXACT (numerics.md, "Eltwise / reduce").

Two operands of FLOAT32 meet on the SFPU, and so does every product unless `fast_and_approximate_mode` asks for the matrix unit;
sums and differences of the rest are the matrix unit's. The Dest has 32 bits where an operand or the result is FLOAT32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.emulator.arithmetic import formats, fpu
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.arithmetic.sfpu import lanes
from harness.emulator.spec.types import DataType, MathFidelity

_FP32 = DataType.FLOAT32


@dataclass(frozen=True)
class Binary:
    """One "add", "subtract" or "multiply": the formats of a, b and the result, and what is fused into it.

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
        return self.a is self.b is _FP32 or (self.kind == "multiply" and not self.fpu_multiply)

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
        if self.kind == "multiply":
            return fpu.sfpu_multiply(x, y, fp32_dest=self.fp32_dest, dtype=dtype)
        return lanes.add(x, y if self.kind == "add" else -y)

    def _on_fpu(self, x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if self.kind == "multiply":
            return fpu.multiply(x, y, Math(MathFidelity.HiFi4, self.fp32_dest), dtype=dtype)
        combine = fpu.add if self.kind == "add" else fpu.subtract
        return combine(x, y, fp32_dest=self.fp32_dest, dtype=dtype)
