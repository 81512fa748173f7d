import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.report import render, write_html
from harness.results.schema import Environment, Record, Results, ResultsError

ENVIRONMENT = Environment.collect(target="emulator", mesh="1x1", model="smollm2")
RULES: dict[str, dict[str, Any]] = {
    "pcc": {"guideline": 0.999, "gate": 0.99, "direction": "higher"},
    "top1": {"guideline": 0.96, "gate": 0.82, "direction": "higher"},
    "kl": {"guideline": 0.01, "gate": 0.04, "direction": "lower"},
    "perplexity_error": {"guideline": 0.01, "gate": 0.05, "direction": "lower"},
    "agreement_length": {"guideline": 16.0, "gate": 1.0, "direction": "higher"},
}


def record(metric: str = "pcc", value: float | None = 0.9995, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "test": "suites/modules/test_mlp.py::test_mlp[0-prefill]",
        "module": "mlp",
        "metric": metric,
        "value": value,
        "verdict": "pass",
        "target": "emulator",
        "precision": "performance",
        "phase": "prefill",
        **RULES.get(metric, {}),
    }
    return Record(**fields | changes)


def drawn(*records: Record, width: int = 200) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    render(Results(ENVIRONMENT, records), console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def line_of(lines: list[str], text: str) -> int:
    places = [i for i, line in enumerate(lines) if text in line]
    assert places, f"{text!r} not in:\n" + "\n".join(lines)
    return places[0]


def test_a_clean_run_says_pass_first() -> None:
    """With nothing wrong the first line is the verdict and the count."""
    assert drawn(record(), record(layer=1))[0] == "VERDICT: pass, all 2 checks"


def test_no_comparison_is_not_a_pass() -> None:
    """A run without records, or with only skipped ones, says that nothing was compared."""
    assert drawn()[0] == "VERDICT: nothing was compared"
    assert (
        drawn(record(value=None, verdict="not_compared", note="no card"))[0]
        == "VERDICT: nothing was compared"
    )


def test_faults_come_first_worst_kind_on_top() -> None:
    """Regressions, then missing goldens, each with module, layer, metric, value and gate, before any table."""
    lines = drawn(
        record(),
        record(
            verdict="missing_golden", value=None, module="norm", note="make it with: tt-harness goldens make"
        ),
        record(value=0.91237, verdict="regression", layer=28, phase="decode", batch=32, seq_len=128),
        record(metric="kl", value=math.nan, verdict="regression", module="model"),
    )
    assert lines[0] == "VERDICT: 3 of 4 checks are not pass: 2 regression, 1 missing_golden"
    assert lines[1].startswith(
        "  regression performance mlp layer 28 decode batch 32, seq 128: PCC 0.91237 (gate: at least 0.99)"
    )
    assert "[suites/modules/test_mlp.py::test_mlp[0-prefill]]" in lines[1]
    assert "mean KL nan (gate: at most 0.04)" in lines[2]
    assert "missing_golden performance norm prefill: PCC - (gate" in lines[3]
    assert lines[3].endswith("make it with: tt-harness goldens make")
    assert line_of(lines, "Modules, precision") > 3


def test_many_faults_are_counted_not_dropped() -> None:
    """Beyond forty lines the remaining faults are counted by precision, module and metric."""
    lines = drawn(*(record(value=0.5, verdict="regression", layer=i) for i in range(45)))
    assert lines[0].startswith("VERDICT: 45 of 45")
    assert sum(line.startswith("  regression") for line in lines) == 40
    assert "  and 5 more: performance mlp PCC" in lines


def test_what_was_not_compared_is_counted_with_its_reason() -> None:
    """Skipped checks do not count as judged and are listed by reason."""
    skipped = [record(value=None, verdict="not_compared", note="needs 2 devices") for _ in range(3)]
    lines = drawn(record(), *skipped, record(value=None, verdict="not_compared"))
    assert lines[:3] == [
        "VERDICT: pass, all 1 checks",
        "  not compared (3): needs 2 devices",
        "  not compared (1): no reason given",
    ]


def test_a_missed_guideline_is_said_plainly() -> None:
    """A value between gate and guideline passes and is named, the worst of several, with where."""
    lines = drawn(
        record("top1", 0.9315, module="model"),
        record(value=0.9982, layer=1),
        record(value=0.9978, layer=7),
        record("kl", 0.009, module="model"),
    )
    assert lines[0] == "VERDICT: pass, all 4 checks"
    assert lines[1] == "  performance misses the guideline for top-1: 93.1% (guideline 96%)"
    assert lines[2] == "  performance mlp misses the guideline for PCC: 0.99780 (guideline 0.999, layer 7)"
    assert not any("mean KL:" in line for line in lines)


def test_a_regression_is_said_once() -> None:
    """A value that misses its gate is not said again to miss the guideline."""
    lines = drawn(record("top1", 0.5, module="model", verdict="regression"))
    assert not any("misses the guideline" in line for line in lines)


def test_module_table_shows_the_worst_and_marks_faults() -> None:
    """Each row is a module and phase in the order data meets them; the cell is the worst value; "!" marks a fault."""
    lines = drawn(
        record(value=0.9999, test="a"),
        record(value=0.9996, test="b"),
        record(value=0.5, test="c", phase="decode", verdict="regression"),
        record(value=0.99999, module="norm"),
        record("worst_row_pcc", 0.998, test="a"),
    )
    table = lines[line_of(lines, "Modules, precision performance") :]
    rows = [line.split() for line in table if line.split()[:1] in (["norm"], ["mlp"])]
    assert rows == [
        ["norm", "prefill", "0.99999", "-", "-", "-", "1"],
        ["mlp", "prefill", "0.99960", "0.99800", "-", "-", "2"],
        ["mlp", "decode", "0.50000!", "-", "-", "-", "1"],
    ]


def test_nothing_is_rounded_up() -> None:
    """A PCC just under the gate or under 1 is not shown as having reached it."""
    lines = drawn(record(value=0.9899999, verdict="regression"), record(value=0.9999999, module="norm"))
    assert "PCC 0.98999 (gate: at least 0.99)" in lines[1]
    assert "0.99999 " in lines[line_of(lines, " norm    prefill")]
    assert not any("1.00000" in line for line in lines)


def test_accuracy_table_has_the_reference_rows() -> None:
    """Ours, plain bf16 PyTorch and the recorded simulated Wormhole stand in one table, with n and golden's perplexity."""
    perplexity = {"perplexity": 13.04, "golden_perplexity": 12.97, "change": 0.0054}
    model: dict[str, Any] = {"module": "model", "n": 1024, "test": "accuracy"}
    floor: dict[str, Any] = {
        **model,
        "target": "torch",
        "precision": "bf16",
        "verdict": "not_compared",
        "gate": None,
    }
    lines = drawn(
        record("pcc", 0.994, **model),
        record("top1", 0.9315, **model),
        record("kl", 0.0123, **model, details={"stderr": 0.00123}),
        record("perplexity_error", 0.0054, **model, details=perplexity),
        record("top1", 0.973, **floor),
    )
    assert lines[0] == "VERDICT: pass, all 4 checks"
    ours = line_of(lines, "93.1%")
    lines = lines[line_of(lines, "Accuracy against the fp32 golden") :]
    ours = line_of(lines, "performance prefill")
    assert lines[ours].split()[2:] == ["0.99400", "-", "93.1%", "-", "0.0123", "13.04", "+0.54%", "1024"]
    assert lines[ours + 1].split() == ["±", "0.0012", "golden", "12.97"]
    floor_row = line_of(lines, "plain bf16 PyTorch (floor)")
    assert "97.3%" in lines[floor_row]
    wormhole = line_of(lines, "performance simulated Wormhole, 32 tokens (recorded)")
    assert ours < floor_row < wormhole
    assert {"0.99410", "87.5%", "88.39", "-4.06%", "32"} <= set(lines[wormhole].split())


def test_generated_text_is_shown_literally() -> None:
    """Prompt, device text and golden text appear as they are, brackets and line ends included."""
    details: dict[str, float | str] = {
        "prompt": "The [bold]",
        "text": " Paris.\nIt",
        "golden_text": " Paris.\nIn",
    }
    lines = drawn(record("agreement_length", 3.0, module="model", precision="accuracy", details=details))
    start = line_of(lines, "Generated, accuracy: equal to golden for 3 tokens")
    assert lines[start + 1 : start + 4] == [
        "  prompt: 'The [bold]'",
        "  device: ' Paris.\\nIt'",
        "  golden: ' Paris.\\nIn'",
    ]


def test_a_latency_names_its_clock() -> None:
    """A timed record is shown under the clock that timed it, and a modelled one as not measured."""
    lines = drawn(record("ttft", 0.0421, clock="model", module="model", phase="prefill", seq_len=128))
    assert line_of(lines, "Prefill, performance; clock: model, not measured")
    row = next(line for line in lines if "42.1" in line).split()
    assert row == ["1x1", "128", "42.1", "3040", "-", "100%", "-"]


def test_latencies_by_mesh_have_their_parallel_efficiency() -> None:
    """Twice the speed on two devices would be 100%; without a trace the step is slower, and shown beside."""
    step = {"module": "model", "phase": "decode", "clock": "model", "batch": 8, "seq_len": 128}
    lines = drawn(
        record("step_time", 0.010, **step, note="traced"),
        record("step_time", 0.040, **step, note="not traced"),
        record("step_time", 0.008, **step, note="traced", mesh="1x2"),
        record("collective_share", 0.25, **step, note="traced", mesh="1x2"),
    )
    two = next(line for line in lines if line.strip().startswith("1x2 ")).split()
    assert two[1:] == ["8", "128", "8", "125.0", "1000.0", "-", "-", "62%", "25%"]
    one = next(line for line in lines if line.strip().startswith("1x1 ")).split()
    assert one[3:7] == ["10", "100.0", "800.0", "25.0"]


@pytest.mark.parametrize("width", [80, 100])
def test_narrow_terminals_keep_every_figure(width: int) -> None:
    """At 80 columns no line runs over and no figure is cut."""
    model: dict[str, Any] = {"module": "model", "n": 1024, "precision": "performance", "phase": "decode"}
    lines = drawn(
        record("pcc", 0.994, **model),
        record("worst_row_pcc", 0.9712, **model),
        record("top1", 0.9315, **model),
        record("top5", 0.9987, **model),
        record("kl", 0.0123, **model, details={"stderr": 0.00123}),
        record(
            "perplexity_error",
            0.0054,
            **model,
            details={"perplexity": 13.04, "golden_perplexity": 12.97, "change": 0.0054},
        ),
        width=width,
    )
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for expected in (
        "0.99400",
        "0.97120",
        "93.1%",
        "99.8%",
        "0.0123",
        "± 0.0012",
        "13.04 +0.54%",
        "12.97",
        "1024",
    ):
        assert expected in text
    assert "…" not in text


def test_html_is_the_same_rendering(tmp_path: Path) -> None:
    """The page is complete, holds the verdict and the tables, and escapes what a model wrote."""
    path = tmp_path / "report.html"
    text: dict[str, float | str] = {"text": "<script>"}
    results = Results(ENVIRONMENT, (record(), record("agreement_length", 3.0, details=text)))
    write_html(results, path)
    page = path.read_text()
    assert page.rstrip().endswith("</html>")
    assert "VERDICT: pass, all 2 checks" in page
    assert "<script>" not in page
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_html_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A path through a file is refused in one line that names the report."""
    (tmp_path / "out").write_text("")
    with pytest.raises(ResultsError, match=r"cannot write .*out/report\.html"):
        write_html(Results(ENVIRONMENT, ()), tmp_path / "out" / "report.html")


def test_counters_are_shown_whole_and_their_gate_is_equality() -> None:
    """One table a precision shows the whole model's counters; a module that differs marks its row and is named above."""
    settings = {"precision": "accuracy", "batch": 32, "seq_len": 128, "phase": "decode"}
    lines = drawn(
        record("ops", 1234567.0, module="model", gate=1234567.0, **settings),
        record(
            "ops",
            30.0,
            module="mlp",
            gate=28.0,
            verdict="regression",
            note="baseline 28 (+2 Tilize)",
            **settings,
        ),
    )
    assert "mlp decode batch 32, seq 128: device ops 30 (gate: exactly 28)" in lines[1]
    assert lines[1].endswith("baseline 28 (+2 Tilize)")
    assert "1,234,567!" in lines[line_of(lines, "device ops  ")]


def test_several_meshes_are_told_apart() -> None:
    """A row for each mesh with the worst of its modules, of the model and of its text; one mesh needs no such table."""
    one = [record("pcc", 0.99991, mesh="1x1"), record("kl", 0.002, module="model", mesh="1x1")]
    lines = drawn(*one)
    assert not any("By device count" in line for line in lines)
    lines = drawn(*one, record("pcc", 0.9995, mesh="1x2"), record("kl", 0.003, module="model", mesh="1x2"))
    start = line_of(lines, "By device count")
    assert "0.99991" in lines[line_of(lines[start:], "1x1") + start]
    row = lines[line_of(lines[start:], "1x2") + start]
    assert "0.99950" in row
    assert "0.003" in row
    accuracy = line_of(lines, "Accuracy against the fp32 golden")
    assert any("performance 1x2" in line for line in lines[accuracy:])


def test_a_run_that_skipped_all_refused_nothing_and_showed_nothing() -> None:
    """On a target without numbers ops that ran were checked; tests that were skipped checked none."""
    dry = Environment.collect(target="dryrun", mesh="1x1", model="smollm2")

    def verdict(note: str) -> str:
        console = Console(width=200, file=io.StringIO(), color_system=None)
        one = record(value=None, verdict="not_compared", target="dryrun", note=note)
        render(Results(dry, (one,)), console)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().splitlines()[0]

    assert "no op was refused" in verdict("dryrun runs every op and computes none")
    assert verdict("skipped: needs numbers").strip() == "VERDICT: nothing was compared"
