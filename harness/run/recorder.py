"""From a measured value to a filed record: looks the gate up, judges, and makes the test fail on a regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.gates.policy import Policy, judge
from harness.metrics import ShapeMismatch, TensorComparison, compare_tensors, pcc
from harness.results.catalogue import METRICS
from harness.results.schema import Record, Verdict
from harness.run.time_shares import clocked

Details = dict[str, float | str]
PairedTest = Callable[[float, float], Details]
LOGIT_MODULES = ("model", "lm_head")
# What the catalogue has of a comparison's figures and properties, in its order.
TENSOR_METRICS = tuple(
    name
    for name in METRICS
    if name in TensorComparison.__dataclass_fields__ or hasattr(TensorComparison, name)
)


class Regression(AssertionError):
    """At least one figure missed its gate; a line each."""


@dataclass(frozen=True)
class Recorder:
    """Files the records of one test. `base` holds what all of them share: test, target, mesh, precision, shape.

    `no_numbers` is why this target's read-backs cannot be judged, None where they can: then shapes are compared, values
    are not, and every record says "not_compared" and why.
    """

    base: Record
    policy: Policy
    file: Callable[[Record], None]
    no_numbers: str | None = None
    mode: str | None = None  # the emulator's, for gates that depend on it

    @clocked("metrics")
    def compare(
        self, actual: torch.Tensor, golden: torch.Tensor, module: str | None = None, note: str = ""
    ) -> TensorComparison | None:
        """Compares two tensors of equal shape [..., width] and files the tensor metrics.

        Logits are compared with each row's mean taken off: a constant added to a row changes no probability, yet
        would rule the relative error and the norm. Their PCC over the whole tensor is that of the logits as they are,
        the figure that others publish.
        `module` names what is compared where it is not the golden's module (such as "kv_cache"), `note` which part of it.
        Raises Regression when any metric misses its gate, and files that first. A shape mismatch is a regression.
        Returns None where the target gives no numbers.
        """
        module = module or self.base.module
        try:
            if self.no_numbers is not None and actual.shape == golden.shape:
                self._not_compared(module)
                return None
            if module in LOGIT_MODULES:
                whole = pcc(actual, golden)
                comparison = replace(compare_tensors(_centred(actual), _centred(golden)), pcc=whole)
            else:
                comparison = compare_tensors(actual, golden)
        except ShapeMismatch as error:
            self.file(replace(self.base, module=module, verdict="regression", note=str(error)))
            raise Regression(f"{self._where(module)}: {error}") from error
        details: Details = {
            "state": comparison.state,
            "norm_ratio": comparison.norm_ratio,
            "max_abs": comparison.max_abs,
            "max_ulp": comparison.max_ulp,
            "mean_ulp": comparison.mean_ulp,
            "worst_row": str(comparison.worst_row_pcc_index),
        }
        self.judge(
            {metric: float(getattr(comparison, metric)) for metric in TENSOR_METRICS},
            comparison.n,
            module,
            details=details,
            note=note,
        )
        return comparison

    def judge(
        self,
        values: dict[str, float],
        n: int,
        module: str | None = None,
        *,
        details: Details | None = None,
        paired: Mapping[str, PairedTest] | None = None,
        note: str = "",
    ) -> None:
        """Files one record a metric, then raises Regression if any of them missed its gate. `n`: what they stand on.

        `paired` has the test behind a metric that a statistical gate may hold: from the gate's alpha and power to details,
        `p_value` and `detectable` among them. Such a gate does not raise: its verdict stands when those of the whole run are
        known (`harness.results.false_discovery`), and then fails the run.
        """
        module = module or self.base.module
        if self.no_numbers is not None:
            self._not_compared(module)
            return
        lines = []
        for metric, value in values.items():
            rule = self.policy.resolve(
                metric=metric,
                module=module,
                precision=self.base.precision,
                target=self.base.target,
                phase=self.base.phase,
                layer=self.base.layer,
                mode=self.mode,
            )
            facts = dict(details or {})
            test = (paired or {}).get(metric)
            if test and rule.alpha is not None and rule.power is not None:
                facts |= {"alpha": rule.alpha, "power": rule.power, **test(rule.alpha, rule.power)}
            verdict: Verdict = judge(value, rule, facts)
            self.file(
                replace(
                    self.base,
                    module=module,
                    metric=metric,
                    value=value,
                    n=n,
                    gate=rule.gate,
                    guideline=rule.guideline,
                    direction=rule.direction,
                    verdict=verdict,
                    details=facts,
                    note=note,
                )
            )
            if verdict != "pass" and "alpha" not in facts:
                sign = "<" if rule.direction == "higher" else ">"
                part = f", {note}" if note else ""
                lines.append(
                    f"{self._where(module)}{part}: {metric} {value:.6g} {sign} gate {rule.gate:g} ({rule.source})"
                )
        if lines:
            raise Regression("\n".join(lines))

    def state(self, verdict: Verdict, note: str) -> None:
        """Files that nothing was measured, and why."""
        self.file(replace(self.base, verdict=verdict, note=note))

    def note(self, values: dict[str, float], n: int, module: str | None = None, **changes: Any) -> None:
        """Files figures that are shown for comparison and not gated, such as those of plain PyTorch in bf16."""
        if self.no_numbers is not None:
            return
        record = replace(
            self.base,
            module=module or self.base.module,
            n=n,
            verdict="pass",
            note="for comparison, not gated",
        )
        for metric, value in values.items():
            self.file(replace(record, metric=metric, value=value, **changes))

    def _not_compared(self, module: str) -> None:
        self.file(replace(self.base, module=module, verdict="not_compared", note=self.no_numbers or ""))

    def _where(self, module: str) -> str:
        b = self.base
        layer = "" if b.layer is None else f" layer {b.layer}"
        return (
            f"{module}{layer} {b.phase or ''} S{b.seq_len} B{b.batch}, {b.precision} on {b.target} {b.mesh}"
        )


def _centred(logits: torch.Tensor) -> torch.Tensor:
    values = logits.float()
    return values - values.mean(dim=-1, keepdim=True)
