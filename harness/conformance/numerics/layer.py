"""A recorded layer again: every op from the recorded operands, all ops chained, and the chain in exact arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import ttnn

from harness.conformance.numerics.exact import exact
from harness.conformance.numerics.inputs import permuted
from harness.conformance.numerics.recordings import Recording, Step, TensorSpec
from harness.conformance.numerics.replay import call, digest, offered, put, read

PERMUTED = " with head dim permuted to HF order on host"
Values = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """One output of one op. Where nothing could be computed, `ours` is None and `reason` says why."""

    step: Step
    output: TensorSpec
    ours: torch.Tensor | None
    recorded: torch.Tensor | None = None  # None: only its digest was kept
    exact: torch.Tensor | None = None  # of the same operands
    reason: str = ""

    @property
    def digest_equal(self) -> bool | None:
        """Whether all bits are the recorded ones; None where the recording has no digest."""
        if self.ours is None or self.output.sha is None:
            return None
        return digest(self.ours) == self.output.sha


def from_recorded(recording: Recording, inputs: Values, device: ttnn.MeshDevice) -> Iterator[Outcome]:
    """Every call, each on the operands that the device had: recorded ones, or earlier outputs proved by their digest."""
    arrays = dict(inputs)
    for name in recording.arrays:
        arrays.setdefault(name, recording.arrays[name])
    for step in recording.steps:
        operands = [_operand(spec, arrays, recording) for spec in step.tensors]
        lacking = [spec.name for spec, values in zip(step.tensors, operands, strict=True) if values is None]
        if lacking or not offered(step.op):
            reason = f"not recorded: {', '.join(lacking)}" if lacking else f"{step.op} is not offered"
            yield from (Outcome(step, output, None, reason=reason) for output in step.outputs)
            continue
        present = [values for values in operands if values is not None]
        tensors = [put(values, spec, device) for values, spec in zip(present, step.tensors, strict=True)]
        operand_values = [read(tensor) for tensor in tensors]
        results = [read(tensor) for tensor in call(step, tensors)]
        expected = exact(step, operand_values)
        for i, (output, ours) in enumerate(zip(step.outputs, results, strict=True)):
            recorded = recording.recorded(output.name)
            outcome = Outcome(step, output, ours, recorded, None if expected is None else expected[i])
            if recorded is None and outcome.digest_equal:
                arrays[output.name] = ours
            yield outcome


def chained(recording: Recording, inputs: Values, device: ttnn.MeshDevice) -> Values:
    """Every call on the outputs of the calls before it; all outputs by name. Ops that are not offered are left out."""
    named_tensors: dict[str, ttnn.Tensor] = {}

    def tensor(spec: TensorSpec) -> ttnn.Tensor:
        if spec.name in named_tensors:
            return named_tensors[spec.name]
        if spec.name.endswith(PERMUTED):
            source = read(named_tensors[spec.name.removesuffix(PERMUTED)])
            return put(permuted(source, spec.shape[-1]), spec, device)
        return put(inputs[spec.name], spec, device)

    for step in recording.steps:
        if offered(step.op):
            results = call(step, [tensor(spec) for spec in step.tensors])
            named_tensors |= {output.name: one for output, one in zip(step.outputs, results, strict=True)}
    return {name: read(one) for name, one in named_tensors.items()}


def golden(recording: Recording, inputs: Values) -> Values:
    """The chain in float64 from unrounded weights and inputs: the golden at every point."""
    outputs: Values = dict(inputs)
    for step in recording.steps:
        if offered(step.op):
            operands = [_golden_operand(spec, outputs) for spec in step.tensors]
            results = exact(step, operands)
            if results is not None:
                outputs |= {output.name: one for output, one in zip(step.outputs, results, strict=True)}
    return outputs


def _operand(
    spec: TensorSpec, arrays: Mapping[str, torch.Tensor], recording: Recording
) -> torch.Tensor | None:
    if spec.name.endswith(PERMUTED):
        source = arrays.get(spec.name.removesuffix(PERMUTED))
        return None if source is None else permuted(source, spec.shape[-1])
    values = arrays.get(spec.name)
    return recording.recorded(spec.name) if values is None else values


def _golden_operand(spec: TensorSpec, results: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if spec.name.endswith(PERMUTED):
        return permuted(results[spec.name.removesuffix(PERMUTED)], spec.shape[-1])
    return results[spec.name]
