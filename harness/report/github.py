"""What a run and a gate say on GitHub: an annotation at each failing test's line, and the step's summary in Markdown.

GitHub sets GITHUB_ACTIONS and GITHUB_STEP_SUMMARY where it runs a step; anywhere else nothing here does anything.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.gates.baseline import Baseline
from harness.gates.gate import FAILURES, Judgement, lines
from harness.report import terminal
from harness.report.grid import Grid, grid
from harness.report.reproduce import command
from harness.results.schema import Results

MOST_ANNOTATIONS = 10  # errors of one step that GitHub shows
MOST_ROWS = 50


@dataclass(frozen=True)
class Annotation:
    """A failure. `test`: its pytest node id."""

    test: str
    title: str
    message: str


def tell_run(results: Results, say: Callable[[str], None]) -> None:
    """Annotates what is not "pass", and adds the verdict and the tables to the step's summary."""
    bad = terminal.faults(results)
    annotations = [
        Annotation(r.test, f"{r.verdict}: {r.module}", terminal.fault(r).plain.strip()) for r in bad
    ]
    commands = [
        f"- {_code(terminal.fault(r).plain.strip())}\n  `{command(r, results.environment)}`" for r in bad
    ]
    notes = [
        f"- {line.plain.strip()}"
        for line in (*terminal.not_compared(results), *terminal.guideline_misses(results))
    ]
    summary = [
        f"## {terminal.headline(results).plain}",
        "\n".join((*commands[:MOST_ROWS], *notes)),
        *(_markdown(grid(table)) for table in terminal.tables(results)),
    ]
    _tell(annotations, summary, say)


def tell_gate(judgement: Judgement, baseline: Baseline, say: Callable[[str], None]) -> None:
    """Annotates regressions and what vanished, and adds the gate's lines to the step's summary."""
    annotations = [
        Annotation(finding.test, f"{finding.kind}: {finding.what}", finding.said)
        for finding in judgement.of(*FAILURES, "unjudged")
    ]
    headline, *rest = lines(judgement, baseline)
    _tell(annotations, [f"## {headline}", "```\n" + "\n".join(rest) + "\n```" if rest else ""], say)


def _tell(annotations: Sequence[Annotation], summary: Sequence[str], say: Callable[[str], None]) -> None:
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for annotation in annotations[:MOST_ANNOTATIONS]:
            say(_workflow_command(annotation))
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("\n\n".join(part for part in summary if part) + "\n\n")


def _workflow_command(annotation: Annotation) -> str:
    where = ""
    file, line = _place(annotation.test)
    if file is not None:
        where = f"file={_property(str(file))},line={line},"
    return f"::error {where}title={_property(annotation.title)}::{_data(annotation.message)}"


def _place(test: str) -> tuple[Path | None, int]:
    """The test's file, relative to the checkout as GitHub wants it, and the line of its def; None where it lies elsewhere."""
    name, *inside = test.partition("[")[0].split("::")
    file = Path(name).absolute()
    checkout = Path(os.environ.get("GITHUB_WORKSPACE", ".")).absolute()
    if not file.is_file() or not file.is_relative_to(checkout):
        return None, 0
    return file.relative_to(checkout), _defined(file).get(inside[-1] if inside else "", 1)


@functools.cache
def _defined(file: Path) -> dict[str, int]:
    """The line of each function."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return {}
    return {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _data(text: str) -> str:
    """Escaped as https://github.com/actions/toolkit does for a workflow command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _markdown(table: Grid) -> str:
    """A table under its title, inside a fold."""
    rows = [
        "| " + " | ".join(_cell(cell.text, cell.kind == "bad") for cell in row) + " |"
        for row in (table.head, *table.rows)
    ]
    ruler = "|" + "|".join("---:" if cell.number else "---" for cell in table.head) + "|"
    return (
        f"<details><summary>{table.title}</summary>\n\n"
        + "\n".join((rows[0], ruler, *rows[1:]))
        + "\n\n</details>"
    )


def _cell(text: str, bad: bool) -> str:
    plain = " ".join(text.split()).replace("|", "\\|")
    return f"**{plain}**" if bad else plain


def _code(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return "`" + text.replace("`", "'") + "`"
