"""How true a run is, as the report shows it."""

from __future__ import annotations

import io

from rich.console import Console

from harness.report.value_sources import finding_lines, sources_table
from harness.results.sources import OpSource, Sources, joined


def op(name: str, source: str, calls: int, seconds: float, reason: str = "") -> OpSource:
    return OpSource(op=name, source=source, calls=calls, in_ttnn=seconds, in_values=seconds, reason=reason)


FOUND = Sources(
    ops=(
        op("ttnn.matmul", "exact", 8, 3.0),
        op("ttnn.add", "exact", 2, 1.0),
        op("ttnn.hardswish", "golden", 5, 4.0, "the emulator has no such op"),
        op("ttnn.generic_op", "none", 1, 2.0, "it has no golden either"),
    ),
    findings=("ttnn.add: the emulator gives TILE, ttnn ROW_MAJOR",),
)


def shown(sources: Sources) -> list[str]:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(sources_table(sources))
    return console.export_text().splitlines()


def test_the_weakest_stand_first_and_exact_ops_in_one_line() -> None:
    """With calls, the share of the time, and why."""
    lines = shown(FOUND)
    unknown, golden, exact = (
        next(i for i, line in enumerate(lines) if word in line)
        for word in ("ttnn.generic_op", "ttnn.hardswish", "2 ops")
    )
    assert unknown < golden < exact
    assert lines[unknown].split() == [
        "none:",
        "NaN",
        "from",
        "here",
        "on",
        "ttnn.generic_op",
        "1",
        "20%",
        "it",
        "has",
        "no",
        "golden",
        "either",
    ]
    assert "40%" in lines[golden]
    assert "the emulator has no such op" in lines[golden]
    assert "10" in lines[exact]
    assert "40%" in lines[exact]


def test_nothing_is_shown_where_all_values_are_the_targets_own() -> None:
    """No table, no finding."""
    assert sources_table(None) is None
    assert sources_table(Sources()) is None
    assert list(finding_lines(None)) == []
    assert [line.plain.strip() for line in finding_lines(FOUND)] == [
        "emulator and ttnn disagree: ttnn.add: the emulator gives TILE, ttnn ROW_MAJOR"
    ]


def test_parts_of_a_run_add_up() -> None:
    """Calls and seconds of an op and source; a finding once."""
    whole = joined([FOUND, FOUND])
    assert [(one.op, one.calls, one.in_ttnn) for one in whole.ops[:2]] == [
        ("ttnn.matmul", 16, 6.0),
        ("ttnn.add", 4, 2.0),
    ]
    assert whole.findings == FOUND.findings
