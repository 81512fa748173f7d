"""`tt-harness bisect` from outside: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.faults import FAULTS
from harness.targets import active

Run = Callable[..., Result]


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(*arguments): the command in an empty folder, on the small model and the target that is in place."""
    monkeypatch.chdir(tmp_path)
    options = ("bisect", f"--model={model}", f"--emulator-mode={active().mode}", "--out=found.json")
    return lambda *arguments: CliRunner().invoke(app, [*options, *arguments])


def test_a_planted_fault_is_named_and_the_status_is_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line names op, module, layer and line; the JSON has every op."""
    FAULTS["drop_causal_mask"](monkeypatch)
    result = run("--seq-len=40")
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith(
        "DIVERGES: ttnn.transformer.scaled_dot_product_attention in attention of layer 0, op "
    )
    assert "tt_llm/modules/attention.py:" in result.stdout
    written = json.loads((tmp_path / "found.json").read_text())
    first = written["ops"][written["first_divergent"]]
    assert first["op"] == "ttnn.transformer.scaled_dot_product_attention"
    assert first["local"]["rel_l2"] > 0.1
    assert written["subject"] == "whole model"
    assert written["not_covered"] == {}


def test_one_module_that_is_right_ends_with_0(run: Run, tmp_path: Path) -> None:
    """Its golden is made where it is missing, and the coverage is said."""
    options = ("--module=mlp", "--layer=-1", "--phase=decode", "--seq-len=40")
    result = run(*options, f"--goldens={tmp_path / 'goldens'}")
    assert result.exit_code == 0, result.output
    assert "NOTHING DIVERGES: 4 ops" in result.stdout
    assert "coverage: 4 of 4 ops compared" in result.stdout
    assert json.loads((tmp_path / "found.json").read_text())["subject"] == "mlp/layer1/decode/S40/B1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--module=mpl",), "module 'mpl': choose one of embedding, attention_norm"),
        (("--module=mlp", "--layer=2"), "layer 2: the model has layers 0 to 1"),
        (("--layer=1",), "layer 1: give the --module too"),
        (("--seq-len=0",), "seq-len 0: give 2 to 512 tokens"),
        (("--precision=half",), "precision 'half': choose one of"),
    ],
)
def test_what_cannot_be_bisected_ends_with_2(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """One line on stderr, and nothing is written."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "found.json").exists()
