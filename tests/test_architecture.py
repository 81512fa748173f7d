"""docs/architecture.md is true: its paths exist, and a run takes the steps of its walks in the order it gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATH = re.compile(
    r"`((?:harness|tt_llm|goldens|suites|ci|tests|benchmarks|docs)/[\w./*-]*|conftest\.py|pyproject\.toml)`"
)
STEP = re.compile(r"^\d+\. `([\w./]+)` `([\w.]+)`", re.MULTILINE)

# Runs a command, and writes which of the steps it left out: a step counts when its function is called after the one above it.
TRACE = """
import json, sys, threading

root, file, argv = {arguments}
with open(file) as text:
    steps = [tuple(step) for step in json.load(text)]

def watch(frame, event, argument):
    if steps and frame.f_code.co_name == steps[0][1].rpartition(".")[2] and frame.f_code.co_filename == root + steps[0][0]:
        del steps[0]

sys.settrace(watch)
threading.settrace(watch)
sys.argv = argv
try:
    if argv[0] == "pytest":
        import pytest
        status = pytest.main(argv[1:])
    elif argv[0] == "tt-harness":
        from harness.cli.app import app
        status = app(standalone_mode=False)
    else:
        status = exec(argv[0], {{"arguments": argv[1:]}})
except SystemExit as end:
    status = end.code
sys.settrace(None)
threading.settrace(None)
with open(file, "w") as text:
    json.dump(steps, text)
sys.exit(int(status or 0))
"""

TEST = """
import pytest

@pytest.mark.tt_golden("mlp", layer=0, phase="prefill", seq_len=[32])
def test_mlp(tt_module, golden, compare):
    compare(tt_module(golden.inputs), golden.output)
"""

MODEL = """
import torch
from harness.targets import activate

activate("emulator", mesh="1x2", mode="exact")
import ttnn
import tt_llm
from tt_llm.mesh import open_mesh, replicate

device = open_mesh((1, 2))
modules = tt_llm.load_modules(arguments[0], device, "performance")
mlp = modules.layer(0).mlp
mlp.prefill(replicate(torch.randn(1, 1, 128, modules.config.dim), device, ttnn.bfloat16))
"""

Steps = list[tuple[str, str]]  # file, function


def walk(heading: str) -> Steps:
    """The numbered steps under a heading of the page."""
    steps: Steps = STEP.findall(PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])
    assert len(steps) > 5, heading
    return steps


@pytest.fixture
def left_out(start: Callable[..., Any], tmp_path: Path) -> Callable[..., Steps]:
    """left_out(steps, *command) runs it in the test's folder and returns the steps it did not take in their order."""

    def run(steps: Steps, *command: str) -> Steps:
        file = tmp_path / "steps.json"
        file.write_text(json.dumps(steps), "utf-8")
        result = start("python", TRACE.format(arguments=(f"{ROOT}/", str(file), list(command))))
        assert result.status == 0, result
        return [(path, name) for path, name in json.loads(file.read_text("utf-8"))]

    return run


@pytest.fixture
def model(tmp_path: Path, save_llama: Callable[..., Path]) -> Path:
    return save_llama(
        tmp_path / "tiny",
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )


def test_every_path_exists() -> None:
    paths = sorted(set(PATH.findall(PAGE)))
    assert len(paths) > 50
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []


def test_every_room_is_on_the_map() -> None:
    rooms = {f"harness/{file.parent.name}/" for file in (ROOT / "harness").glob("*/__init__.py")}
    assert rooms - set(PATH.findall(PAGE)) == set()


def test_a_step_out_of_order_is_seen(left_out: Callable[..., Steps]) -> None:
    """Two calls in one order, a walk that gives the other."""
    script = "from goldens.catalog import decode_positions, key\ndecode_positions(2, 4)\ntry: key(0, '', '')\nexcept AttributeError: pass"
    first, second = ("goldens/catalog.py", "decode_positions"), ("goldens/catalog.py", "key")
    assert left_out([first, second], script) == []
    assert left_out([second, first], script) == [first]


def test_a_number_goes_its_way(left_out: Callable[..., Steps], model: Path, tmp_path: Path) -> None:
    """Golden made, module run, compared, filed, written; then gated against a baseline."""
    (tmp_path / "test_mlp.py").write_text(TEST, "utf-8")
    options = ("-q", "-p", "no:cacheprovider", f"--tt-model={model}", f"--tt-goldens={tmp_path / 'store'}")
    run = ("pytest", "test_mlp.py", *options, "--tt-update-goldens", "--tt-results=results.json")
    steps = left_out(walk("The path of a number"), *run)
    assert steps
    assert steps[0][0] == "harness/cli/commands/gate.py"
    baseline = ("--baseline", "baseline.json")
    assert (
        left_out([], "tt-harness", "baseline", "update", "results.json", *baseline, "--reason", "first") == []
    )
    assert left_out(steps, "tt-harness", "gate", "results.json", *baseline) == []


def test_a_weight_goes_its_way(left_out: Callable[..., Steps], model: Path) -> None:
    assert left_out(walk("The path of a weight"), MODEL, str(model)) == []


def test_an_op_call_goes_its_way(left_out: Callable[..., Steps], model: Path) -> None:
    """Down to the compiled kernel, whose file is C++ and has the function."""
    steps = walk("The path of an op call")
    assert left_out([step for step in steps if step[0].endswith(".py")], MODEL, str(model)) == []
    (kernel,) = [step for step in steps if step[0].endswith(".cpp")]
    assert kernel[1] in (ROOT / kernel[0]).read_text("utf-8")
