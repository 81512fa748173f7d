"""The false discovery rate of a run's statistical gates: with many tests, some reject by chance.

A gate at alpha raises one false alarm in 1 / alpha runs; a run with twenty of them, twenty times as many. Benjamini and
Hochberg's adjustment keeps the share of false alarms among all alarms at alpha, whatever the number of gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.metrics import benjamini_hochberg
from harness.results.schema import Record


def controlled(records: Sequence[Record]) -> list[Record]:
    """The records with the adjusted p-value, `q_value`, in the details of each statistical gate.

    A regression whose q_value is above its alpha becomes "inconclusive": alone it would be one, among so many it may be chance.
    """
    judged = [i for i, record in enumerate(records) if is_statistical(record)]
    adjusted = benjamini_hochberg([float(records[i].details["p_value"]) for i in judged])
    judged_together = list(records)
    for i, q_value in zip(judged, adjusted, strict=True):
        judged_together[i] = _controlled(records[i], q_value, len(judged))
    return judged_together


def is_statistical(record: Record) -> bool:
    """Whether a paired test judged it."""
    return "p_value" in record.details and "alpha" in record.details


def _controlled(record: Record, q_value: float, tests: int) -> Record:
    details = {**record.details, "q_value": q_value}
    alpha = float(record.details["alpha"])
    if record.verdict == "regression" and q_value > alpha:
        note = (
            f"p {record.details['p_value']:.2g} alone, {q_value:.2g} among the run's {tests} statistical gates "
            f"(alpha {alpha:g})"
        )
        return replace(record, verdict="inconclusive", details=details, note=note)
    if record.verdict == "inconclusive":
        note = (
            f"{record.n} samples tell a change of {float(record.details['detectable']):.2g} from chance "
            f"(alpha {alpha:g}, power {float(record.details['power']):g}): too few for this effect"
        )
        return replace(record, details=details, note=record.note or note)
    return replace(record, details=details)
