"""The main job, as `make demo` runs it, on the real model under the policy "accuracy"."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.results.schema import Results, read_results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("quick")
    command = [
        sys.executable,
        "-m",
        "harness.cli.app",
        "run",
        "--suite",
        "quick",
        "--out",
        str(out),
        "--emulator-mode",
        "fast",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=900), out


@pytest.fixture(scope="module")
def results(run: tuple[subprocess.CompletedProcess[str], Path]) -> Results:
    return read_results(run[1] / "results.json")


def value(results: Results, metric: str, phase: str, target: str = "emulator") -> float:
    (result,) = (
        record.value
        for record in results.records
        if (record.metric, record.phase, record.target) == (metric, phase, target)
        and "accuracy" in record.test
        and record.layer is None
    )
    assert result is not None
    return result


def test_it_passes_and_leaves_results_and_report(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """Exit status 0, the verdict first, then results.json and report.html where they were asked for."""
    result, out = run
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    summary = result.stdout.split("tt-harness =", 1)[1].splitlines()[1:]
    assert summary[0].startswith("VERDICT: pass, all")
    assert (out / "report.html").read_text().count("Accuracy against the fp32 golden") == 1
    assert result.stdout.splitlines()[-2:] == [str(out / "results.json"), str(out / "report.html")]


def test_every_module_is_judged_in_prefill_and_decode(results: Results) -> None:
    """No module of the model goes without a PCC in either phase."""
    judged = {(record.module, record.phase) for record in results.records if record.metric == "pcc"}
    modules = [
        "embedding",
        "rope",
        "attention_norm",
        "attention",
        "kv_cache",
        "mlp_norm",
        "mlp",
        "decoder",
        "final_norm",
        "lm_head",
        "model",
    ]
    assert judged >= {(module, phase) for module in modules for phase in ("prefill", "decode")}


def test_the_real_model_is_as_right_as_it_was_measured_to_be(results: Results) -> None:
    """The figures of docs/accuracy.md, with room for another machine's summation order, and beside the bf16 floor's."""
    assert value(results, "kl", "prefill") < 0.0012
    assert value(results, "top1", "prefill") > 0.965
    assert value(results, "top5", "prefill") > 0.998
    assert value(results, "perplexity_error", "prefill") < 0.003
    assert 0.0008 < value(results, "kl", "prefill", target="torch") < 0.0016


def test_real_text_comes_out(results: Results) -> None:
    """The first prompt's continuation is text, equal to the golden's for at least 16 tokens."""
    first = next(record for record in results.records if record.metric == "agreement_length")
    assert first.value is not None
    assert first.value >= 16
    assert str(first.details["text"]).startswith(" Paris.")
