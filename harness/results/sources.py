"""Where the values of each op came from, of a run whose values stand beside the real ttnn: target shadow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

WORDS = ("none", "golden", "exact")  # the sources, the weakest first
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class OpSource:
    """Calls of an op whose values came from one source: the seconds in ttnn and in computing them, and why none is better."""

    op: str
    source: str  # one of WORDS
    calls: int
    in_ttnn: float
    in_values: float
    reason: str = ""


def _ops(value: Any) -> tuple[Any, ...]:
    return tuple(OpSource(**one) if isinstance(one, dict) else one for one in value)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Sources:
    """How true a run is. `findings`: where the emulator and the real ttnn disagree about a result, or whether there is one."""

    ops: Annotated[tuple[OpSource, ...], BeforeValidator(_ops)] = ()
    findings: Annotated[tuple[str, ...], BeforeValidator(tuple)] = ()


def joined(parts: Iterable[Sources]) -> Sources:
    """The calls of all parts, an op and source once; the first reason given."""
    ops: dict[tuple[str, str], OpSource] = {}
    findings: dict[str, None] = {}
    for part in parts:
        findings.update(dict.fromkeys(part.findings))
        for one in part.ops:
            earlier = ops.get((one.op, one.source))
            ops[one.op, one.source] = (
                one
                if earlier is None
                else replace(
                    earlier,
                    calls=earlier.calls + one.calls,
                    in_ttnn=earlier.in_ttnn + one.in_ttnn,
                    in_values=earlier.in_values + one.in_values,
                    reason=earlier.reason or one.reason,
                )
            )
    return Sources(ops=tuple(ops.values()), findings=tuple(findings))
