"""The report: first what is not "pass", then what was not compared, then tables by precision."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.layers import growth
from harness.report.tables.accuracy import (
    accuracy_table,
    counters_tables,
    mesh_table,
    module_tables,
)
from harness.report.tables.latency import latency_tables
from harness.report.tables.numerics import numerics_tables
from harness.report.tables.tasks import task_tables
from harness.report.tokens import shown_tokens
from harness.report.value_sources import finding_lines, sources_table
from harness.results.figures import bound, figure, label, misses_guideline, worse
from harness.results.schema import REFERENCE_TARGET, Environment, Record, Results, Verdict
from harness.targets import TARGETS

FAULT_ORDER: tuple[Verdict, ...] = (
    "regression",
    "missing_golden",
    "stale_golden",
    "missing_baseline",
    "inconclusive",
)
MODES = {
    "fast": " (fast: operands and results rounded as on the device, accumulation error not modelled)",
    "device": " (device: the destination register's rounding too)",
    "exact": " (exact: bit for bit)",
}
SKIPPED = "skipped:"  # how the note of a test that did not run starts
SIGNS = {"higher": "at least", "lower": "at most", None: "exactly"}
MOST_TOKENS = 3  # of each kind
MOST_FAULTS = 40  # lines; what is left is counted by module and metric
WHOLE_MODEL_METRICS = ("top1", "top5", "kl", "perplexity_error", "agreement_length", "flip_cost")


def render(results: Results, console: Console) -> None:
    """Prints the whole report; readable from 80 columns on. A file without records is said to have judged nothing."""
    for line in (
        headline(results),
        *_first_faults(results),
        *not_compared(results),
        *tried_again(results),
        *guideline_misses(results),
        *finding_lines(results.sources),
    ):
        _print(console, line)
    _print(console, Text(_where(results.environment, results.records), style="dim"))
    for table in tables(results):
        console.print(table)
    for sentence in (*growth(results.records), *_tokens(results.records)):
        _print(console, Text(sentence))
    for text in generated(results.records):
        _print(console, text)


def tables(results: Results) -> list[Table]:
    """Every table that the records fill."""
    records = results.records
    every = (
        sources_table(results.sources),
        mesh_table(records),
        *module_tables(records),
        accuracy_table(records, results.environment.model),
        *latency_tables(records),
        *counters_tables(records),
        *numerics_tables(records),
        *task_tables(records),
    )
    return [table for table in every if table is not None]


def _print(console: Console, text: Text) -> None:
    console.print(text, highlight=False, soft_wrap=False)


def headline(results: Results) -> Text:
    """The verdict in a line."""
    records = _judged(results)
    bad, idle = faults(results), _idle(records)
    # Figures that no gate is held against
    ungated = sum(r.verdict == "pass" and r.gate is None and r.value is not None for r in records)
    judged = len(records) - len(idle) - ungated
    target = TARGETS.get(results.environment.target)  # of joined files several, which are none
    computes = target is None or target.computes
    if not judged and any(not r.note.startswith(SKIPPED) for r in idle) and not computes:
        return Text("VERDICT: no op was refused; this target gives no numbers to compare", style="bold green")
    if not judged and ungated:
        return Text(
            f"VERDICT: none, {ungated} figures are shown and no gate is held against them",
            style="bold yellow",
        )
    if not judged:
        return Text("VERDICT: nothing was compared", style="bold red")
    if not bad:
        return Text(f"VERDICT: pass, all {judged} checks", style="bold green")
    counts = Counter(r.verdict for r in bad)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in FAULT_ORDER if kind in counts)
    return Text(f"VERDICT: {len(bad)} of {judged} checks are not pass: {kinds}", style="bold red")


def faults(results: Results) -> list[Record]:
    """The records that are not "pass", the gravest first."""
    bad = (r for r in _judged(results) if r.verdict in FAULT_ORDER)
    return sorted(bad, key=lambda r: FAULT_ORDER.index(r.verdict))


def not_compared(results: Results) -> Iterable[Text]:
    """Why tests compared nothing, a line a reason."""
    for note, count in Counter(r.note or "no reason given" for r in _idle(_judged(results))).most_common():
        yield Text(f"  not compared ({count}): {note}", style="yellow")


def tried_again(results: Results) -> Iterable[Text]:
    """The tests that ran more than once, of which only the last try is on record."""
    for test, tries in {r.test: r.tries for r in results.records if r.tries > 1}.items():
        yield Text(f"  {tries} tries, of which the last counts: {test}", style="yellow")


def _first_faults(results: Results) -> Iterable[Text]:
    bad = faults(results)
    for record in bad[:MOST_FAULTS]:
        yield fault(record)
    rest = Counter(f"{r.precision} {r.module} {label(r.metric)}" for r in bad[MOST_FAULTS:])
    for what, count in rest.most_common():
        yield Text(f"  and {count} more: {what}", style="red")


def _judged(results: Results) -> list[Record]:
    return [r for r in results.records if r.target != REFERENCE_TARGET]


def _idle(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r.verdict == "not_compared"]


def fault(record: Record) -> Text:
    """What is wrong, with value, gate and test."""
    line = Text(f"  {record.verdict} ", style="red")
    if record.metric == "none":  # nothing was measured: the test itself failed
        return line.append(f"{record.test}: {record.note}")
    line.append(
        f"{_subject(record)}: {label(record.metric)} {figure(record.metric, record.value, record.unit)}"
    )
    if record.gate is not None:
        sign = SIGNS[record.direction]
        line.append(f" (gate: {sign} {bound(record.metric, record.gate, record.unit)})")
    line.append(f" [{record.test}]", style="dim")
    if record.note:
        line.append(f" {record.note}")
    return line


def _subject(record: Record) -> str:
    layer = None if record.layer is None else f"layer {record.layer}"
    sizes = f"batch {record.batch}, seq {record.seq_len}" if record.seq_len else None
    return " ".join(part for part in (record.precision, record.module, layer, record.phase, sizes) if part)


def guideline_misses(results: Results) -> Iterable[Text]:
    """One line for each precision and module that passes its gates and misses guidelines: each metric's worst value."""
    worst: dict[str, dict[str, Record]] = {}
    for record in _judged(results):
        if record.verdict != "pass" or not misses_guideline(record):
            continue
        whole = record.metric in WHOLE_MODEL_METRICS
        who = record.precision if whole else f"{record.precision} {record.module}"
        metrics = worst.setdefault(who, {})
        metric = metrics.get(record.metric)
        metrics[record.metric] = worse(metric, record) if metric else record
    for who, metrics in worst.items():
        line = Text(f"  {who} misses the guideline for ", style="yellow")
        line.append("; ".join(_miss(record) for record in metrics.values()))
        yield line


def _miss(record: Record) -> str:
    layer = f", layer {record.layer}" if record.layer is not None else ""
    value, guideline = figure(record.metric, record.value), bound(record.metric, record.guideline)
    return f"{label(record.metric)}: {value} (guideline {guideline}{layer})"


def _where(environment: Environment, records: Sequence[Record]) -> str:
    versions = ", ".join(f"{name} {version or 'absent'}" for name, version in environment.versions.items())
    mode = MODES.get(environment.emulator_mode or "", "")
    return (
        f"{environment.model} on {environment.target}{mode}, mesh {environment.mesh}; {len(records)} records;"
        f" {environment.machine}; Python {environment.python}, {versions}"
    )


def _tokens(records: Sequence[Record]) -> Iterable[str]:
    """The first tokens of each kind that judged records show in their text; the page and the results file have more."""
    for title, lines in shown_tokens([r for r in records if r.target != REFERENCE_TARGET]):
        yield title
        yield from (f"  {line}" for line in lines[:MOST_TOKENS])


def generated(records: Sequence[Record]) -> Iterable[Text]:
    """What the device wrote beside what the golden did."""
    for record in records:
        if record.metric != "agreement_length" or record.gate is None:
            continue  # continuations that are not judged are in results.json
        yield Text(
            f"Generated, {record.precision}: equal to golden for {figure(record.metric, record.value)}",
            "bold",
        )
        for key, title in (("prompt", "prompt"), ("text", "device"), ("golden_text", "golden")):
            if key in record.details:
                yield Text(f"  {title}: {str(record.details[key])!r}")
