"""The suites see what they are for: planted mistakes turn them red, and a mistake that none sees is said to be a hole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from typer.testing import CliRunner

from harness.cli.app import app
from harness.faults import FAULTS, MESH_FAULTS, SLOWDOWNS

ROOT = Path(__file__).parents[2]
# What any prompt shows, what long ones alone, and what no argmax does.
SEEN = ("drop_causal_mask", "positions_in_bf16", "temperature_left_in")
# What one user does to another.
BROKEN_INVARIANCES = ("rows_without_a_user_are_written", "padding_written_into_unallocated_pages")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, save_byte_tokenizer: Callable[[Path], None]) -> Path:
    """Two layers, four query heads of two key-value heads, norms whose weights are not one."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "small"
    built = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, weight in built.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    built.save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def plant(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """plant(faults, *arguments) runs `tt-harness faults` on the small model: exit status, output, the JSON's rows."""
    folder = tmp_path_factory.mktemp("faults")

    def run(faults: tuple[str, ...], *arguments: str) -> tuple[int, str, dict[str, Any]]:
        out = folder / "faults.json"
        out.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "harness.cli.app",
            "faults",
            f"--only={','.join(faults)}",
            f"--out={out}",
        ]
        command += [f"--model={model}", "--layers=0", f"--goldens={folder / 'goldens'}", *arguments]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        rows = json.loads(out.read_text())["faults"] if out.exists() else []
        return process.returncode, process.stdout + process.stderr, {row["fault"]: row for row in rows}

    return run


def test_the_catalogue_is_long_and_says_what_each_mistake_is() -> None:
    """At least forty faults, each with a sentence and the module where it lies."""
    every = FAULTS | MESH_FAULTS
    assert len(every) >= 40
    assert not set(every) & set(SLOWDOWNS)
    for fault in every.values():
        assert fault.what.endswith("."), fault.name
        assert fault.module, fault.name


def test_faults_are_seen_by_their_modules_tests(plant: Callable[..., Any]) -> None:
    """The command ends with 0, and the matrix has the figure that missed its gate."""
    status, output, rows = plant(SEEN, "--suite=modules")
    assert status == 0, output
    assert "FAULTS: 3 of 3 killed, 3 of them by a module's own tests" in output
    for name in SEEN:
        kill = rows[name]["kills"]["modules"]
        assert kill["metric"] != "assertion", name
        assert kill["gate"] is not None, name
        assert rows[name]["raised"] == [], "seen by a figure, not by an accident"


@pytest.mark.slow
def test_invariances_see_what_breaks_them_and_a_hole_is_named(plant: Callable[..., Any]) -> None:
    """They hold under a wrong scale: alone they leave that alive, which ends with 1."""
    status, output, rows = plant((*BROKEN_INVARIANCES, "wrong_attention_scale"), "--suite=metamorphic")
    caught = [name for name, row in rows.items() if "metamorphic" in row["kills"]]
    assert caught == list(BROKEN_INVARIANCES), output
    assert status == 1
    assert "SURVIVES: wrong_attention_scale: Scores are divided by the head dimension" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only=typo",), "fault 'typo': choose from "),
        (("--suite=typo",), "suite 'typo': choose from modules, model, metamorphic, accuracy"),
        (("--layers=-1",), "layers -1: give a number of decoder layers"),
    ],
)
def test_what_cannot_be_planted_ends_with_2(arguments: tuple[str, ...], message: str) -> None:
    """A mistyped name does not run a healthy model in its place."""
    result = CliRunner().invoke(app, ["faults", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")


def test_an_unknown_fault_is_refused_by_the_plugin_in_one_line() -> None:
    """The same of `--tt-fault`."""
    command = [sys.executable, "-m", "pytest", "suites", "-p", "harness.faults", "--tt-fault", "typo"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2
    assert "fault 'typo': choose one of" in process.stdout + process.stderr
