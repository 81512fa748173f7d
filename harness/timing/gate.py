"""Exact counters held against their baseline: any difference is a regression, and says which ops make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ttnn

from harness.results.catalogue import COUNTERS
from harness.results.schema import Phase, Verdict
from harness.run.recorder import Recorder, Regression
from harness.timing.baselines import Baselines
from harness.timing.counters import WHOLE, Counts, count

if TYPE_CHECKING:
    from harness.run.session import Session

TRACE = "trace"  # the module that stands for a pass that is one replay


@dataclass(frozen=True)
class CounterGate:
    """Counts a pass and files a record for each module and counter."""

    session: Session
    recorder: Recorder
    precision: str

    def __call__(
        self, run: Callable[[], object], *, phase: Phase, batch: int, seq_len: int, traced: bool = False
    ) -> None:
        """Raises Regression for counters that differ from the baseline or have none; every record is filed before.

        `run` is called three times; where it is `traced` a fourth time before, which captures, so that a replay is counted:
        no op is called, and what the host still moves is left. With --tt-update-baselines what is counted becomes the baseline.
        """
        modules = count(ttnn, self.session.mesh_device, run, warm_runs=int(traced))
        name = f"{phase} B{batch} S{seq_len}"
        if traced:
            modules, name = {TRACE: modules[WHOLE]}, f"{phase} traced B{batch} S{seq_len}"
        baselines = Baselines.of_run(self.session.options, self.precision)
        if self.session.options.update_baselines:
            baselines.put(name, modules)
        expected = baselines.get(name)
        base = replace(self.recorder.base, phase=phase, batch=batch, seq_len=seq_len)
        lines = []
        for module in sorted({*modules, *(expected or {})}):
            ours = modules.get(module, Counts())
            theirs = None if expected is None else expected.get(module, Counts())
            for metric in [
                name for name in COUNTERS if name in ours.values or (theirs and name in theirs.values)
            ]:
                verdict, note = _judge(metric, ours, theirs)
                self.recorder.file(
                    replace(
                        base,
                        module=module,
                        metric=metric,
                        value=float(ours.values[metric]),
                        unit=COUNTERS[metric].unit,
                        gate=None if theirs is None else float(theirs.values[metric]),
                        verdict=verdict,
                        note=note,
                        details={op: float(n) for op, n in ours.by_op.items()} if metric == "ops" else {},
                    )
                )
                if verdict == "regression":
                    lines.append(f"{module} {name}: {metric} {ours.values[metric]:,}, {note}")
        if expected is None:
            raise Regression(
                f"no baseline for {name} in {baselines.path}: look at the counters, then run again with --tt-update-baselines"
            )
        if lines:
            made_with = baselines.made_with()
            lines.append(
                f"the baseline is {baselines.path}, made with ttnn {made_with}; this is {baselines.installed()}"
            )
            raise Regression("\n".join(lines))


def _judge(metric: str, ours: Counts, theirs: Counts | None) -> tuple[Verdict, str]:
    """The verdict, and in a note what the baseline says; ops must be the same by name, not only in number."""
    if theirs is None:
        return "missing_baseline", "no baseline; --tt-update-baselines makes it"
    changed = metric == "ops" and ours.by_op != theirs.by_op
    if ours.values[metric] == theirs.values[metric] and not changed:
        return "pass", ""
    note = f"baseline {theirs.values[metric]:,}"
    if changed:
        names = sorted({*ours.by_op, *theirs.by_op})
        apart = [(n, ours.by_op[n] - theirs.by_op[n]) for n in names if ours.by_op[n] != theirs.by_op[n]]
        note += f" ({', '.join(f'{change:+d} {op}' for op, change in apart)})"
    return "regression", note
