"""The report's tables: module by module, whole-model accuracy with its reference rows, counters."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report.layers import CHAINED
from harness.report.tables.simulated_reference import REFERENCE_MODEL, SIMULATED_WORMHOLE, SimulatedReference
from harness.results.catalogue import COUNTERS, METRICS
from harness.results.figures import figure, worse
from harness.results.schema import REFERENCE_TARGET, Record

MODULE_METRICS = ("pcc", "worst_row_pcc", "rel_l2", "norm_error")
ACCURACY_METRICS = ("top1", "top5", "kl", "perplexity_error")
ACCURACY_COLUMNS = (
    "logits\nPCC",
    "worst\nrow",
    "top-1",
    "top-5",
    "mean KL\n± se",
    "perplexity\nand golden's",
    "n",
)
# Title -> whether of the whole model or of its modules, and the metric.
MESH_COLUMNS = {
    "modules' PCC": (False, "pcc"),
    "modules' worst row": (False, "worst_row_pcc"),
    "model's PCC": (True, "pcc"),
    "top-1": (True, "top1"),
    "mean KL": (True, "kl"),
    "perplexity error": (True, "perplexity_error"),
    "greedy agreement": (True, "agreement_length"),
}
ORDER = ("embedding", "rope", "norm", "attention", "kv_cache", "mlp", "decoder", "lm_head", "model")


def module_tables(records: Sequence[Record]) -> list[Table]:
    """One table a precision: rows module and phase, each cell the worst over tests and layers, "!" if any is not pass."""
    ours = [
        r
        for r in records
        if r.metric in MODULE_METRICS
        and r.target != REFERENCE_TARGET
        and not r.clock
        and r.note != CHAINED  # those of `harness.report.layers`: not the module's own error
    ]
    tables = []
    for precision in dict.fromkeys(r.precision for r in ours):
        table = _table(f"Modules, precision {precision} (worst of all tests)")
        table.add_column("module", overflow="fold")
        table.add_column("phase", no_wrap=True)
        for title in (*(METRICS[name].heading or METRICS[name].label for name in MODULE_METRICS), "tests"):
            table.add_column(title, justify="right", no_wrap=True)
        mine = [r for r in ours if r.precision == precision]
        for module, phase in sorted({(r.module, r.phase or "") for r in mine}, key=_place):
            group = [r for r in mine if r.module == module and (r.phase or "") == phase]
            cells = [_cell(group, metric) for metric in MODULE_METRICS]
            table.add_row(Text(module), phase, *cells, str(len({r.test for r in group})))
        tables.append(table)
    return tables


def accuracy_table(records: Sequence[Record], model: str) -> Table | None:
    """Our precisions, plain bf16 PyTorch, and what a simulated Wormhole was seen to do with SmolLM2.

    None without such records.
    """
    judged = [r for r in records if r.metric in ACCURACY_METRICS and r.layer is None]
    if not judged:
        return None
    table = _table("Accuracy against the fp32 golden")
    table.add_column("precision", overflow="fold", min_width=11)
    for title in ACCURACY_COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    several = len({r.mesh for r in judged}) > 1
    rows = list(dict.fromkeys(_accuracy_row(r) for r in judged))
    rows.sort(key=lambda row: row[0] == REFERENCE_TARGET)
    for row in rows:
        target, precision, phase, _, mesh = row
        same = [r for r in judged if _accuracy_row(r) == row]
        logits = _logits([r for r in records if r.mesh == same[0].mesh], same)
        name = "plain bf16 PyTorch (floor)" if target == REFERENCE_TARGET else precision
        where = f" {mesh}" if several and mesh else ""
        table.add_row(Text(f"{name}{where}{' ' + phase if phase else ''}"), *_accuracy_cells(logits, same))
    references = SIMULATED_WORMHOLE if model == REFERENCE_MODEL else {}
    for precision in dict.fromkeys(row[1] for row in rows if row[1] in references):
        reference = SIMULATED_WORMHOLE[precision]
        name = f"{precision} simulated Wormhole, {reference.n} tokens (recorded)"
        table.add_row(Text(name, style="dim"), *_reference_cells(reference))
    return table


def _accuracy_row(r: Record) -> tuple[str, str, str | None, str | None, str]:
    """What the figures of one row share: a row for each text and mesh; the reference runs on none."""
    return r.target, r.precision, r.phase, r.golden, "" if r.target == REFERENCE_TARGET else r.mesh


def mesh_table(records: Sequence[Record]) -> Table | None:
    """Accuracy by device count, each cell the worst of its mesh and precision; None where there is one mesh only."""
    ours = [r for r in records if r.target != REFERENCE_TARGET and not r.clock]
    meshes = list(dict.fromkeys(r.mesh for r in ours))
    if len(meshes) < 2:
        return None
    table = _table("By device count (worst of all tests)")
    for title in ("mesh", "precision"):
        table.add_column(title, no_wrap=True)
    for title in (*MESH_COLUMNS, "checks"):
        table.add_column(title, justify="right")
    for mesh in meshes:
        for precision in dict.fromkeys(r.precision for r in ours if r.mesh == mesh):
            group = [r for r in ours if (r.mesh, r.precision) == (mesh, precision)]
            cells = [
                _cell([r for r in group if (r.module == "model") == whole], metric)
                for whole, metric in MESH_COLUMNS.values()
            ]
            table.add_row(mesh, precision, *cells, str(len(group)))
    return table


def counters_tables(records: Sequence[Record]) -> list[Table]:
    """What passes of the whole model cost, exactly, one table a precision: a row a counter, a column a pass.

    "!" where the figure of the whole or of any module differs from the baseline.
    """
    counted = [r for r in records if r.metric in COUNTERS and r.value is not None]
    tables = []
    for precision in dict.fromkeys(r.precision for r in counted):
        mine = [r for r in counted if r.precision == precision]
        table = _table(f"Exact counters of the whole model, precision {precision} (of one device)")
        table.add_column("counter", no_wrap=True)
        passes = list(dict.fromkeys((r.phase, r.batch, r.seq_len) for r in mine))
        for phase, batch, seq_len in passes:
            table.add_column(f"{phase}, batch {batch}, seq {seq_len}", justify="right")
        for metric in COUNTERS:
            groups = [
                [r for r in mine if r.metric == metric and (r.phase, r.batch, r.seq_len) == one]
                for one in passes
            ]
            table.add_row(COUNTERS[metric].label, *(_counter_cell(group) for group in groups))
        tables.append(table)
    return tables


def _counter_cell(group: Sequence[Record]) -> Text:
    whole = [r for r in group if r.module == "model"]
    mark = _mark(group)
    text = figure(whole[0].metric, whole[0].value) if whole else "-"
    return Text(text + mark, style="red" if mark else "")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _place(row: tuple[str, str]) -> tuple[int, str, bool]:
    module, phase = row
    return (ORDER.index(module) if module in ORDER else len(ORDER), module, phase == "decode")


def _cell(group: Sequence[Record], metric: str, suffix: str = "") -> Text:
    mine = [r for r in group if r.metric == metric]
    if not mine:
        return Text("-")
    worst = mine[0]
    for record in mine[1:]:
        worst = worse(worst, record)
    mark = _mark(mine)
    return Text(figure(metric, worst.value) + mark + suffix, style="red" if mark else "")


def _mark(group: Sequence[Record]) -> str:
    return "" if all(r.verdict == "pass" or r.gate is None for r in group) else "!"


def _logits(records: Sequence[Record], same: Sequence[Record]) -> list[Record]:
    """The tensor records of the tests that the accuracy figures come from."""
    tests = {r.test for r in same}
    return [r for r in records if r.test in tests and r.metric in MODULE_METRICS]


def _accuracy_cells(logits: Sequence[Record], same: Sequence[Record]) -> list[Text]:
    by_metric = {metric: [r for r in same if r.metric == metric] for metric in ACCURACY_METRICS}
    kl_error = [r.details["stderr"] for r in by_metric["kl"] if "stderr" in r.details]
    kl_suffix = f"\n± {kl_error[0]:.2g}" if len(kl_error) == 1 and isinstance(kl_error[0], float) else ""
    return [
        _cell(logits, "pcc"),
        _cell(logits, "worst_row_pcc"),
        _cell(same, "top1"),
        _cell(same, "top5"),
        _cell(same, "kl", kl_suffix),
        _perplexity_cell(by_metric["perplexity_error"]),
        Text(str(max(r.n for r in same))),
    ]


def _perplexity_cell(group: Sequence[Record]) -> Text:
    if not group:
        return Text("-")
    worst = group[0]
    for record in group[1:]:
        worst = worse(worst, record)
    ours, golden, change = (worst.details.get(key) for key in ("perplexity", "golden_perplexity", "change"))
    mark = _mark(group)
    if not (isinstance(ours, float) and isinstance(golden, float) and isinstance(change, float)):
        return Text(f"error {figure('perplexity_error', worst.value)}{mark}", style="red" if mark else "")
    return Text(_perplexity(ours, golden, change) + mark, style="red" if mark else "")


def _perplexity(ours: float, golden: float, change: float) -> str:
    return f"{ours:.2f} {change:+.2%}\ngolden {golden:.2f}"


def _reference_cells(reference: SimulatedReference) -> list[Text]:
    texts = (
        figure("pcc", reference.pcc),
        figure("worst_row_pcc", reference.worst_row_pcc),
        figure("top1", reference.top1),
        figure("top5", reference.top5),
        figure("kl", reference.kl),
        _perplexity(reference.perplexity, reference.golden_perplexity, reference.change),
        str(reference.n),
    )
    return [Text(text, style="dim") for text in texts]
