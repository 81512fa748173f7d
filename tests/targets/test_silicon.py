"""Cards as a target: what it refuses, what it sets, and whom it asks. No card is needed; a mock cluster answers for them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from harness.targets import silicon, wheel


@pytest.fixture
def cards(tmp_path: Path, environment: pytest.MonkeyPatch, wheel_folder: Path) -> pytest.MonkeyPatch:
    """A machine with an N300 and a ttnn: nothing is missing."""
    nodes = tmp_path / "dev"
    nodes.mkdir()
    (nodes / "0").touch()
    environment.setattr(silicon, "NODES", nodes)
    answers(environment, '{"devices": 2, "arch": "wormhole_b0"}')
    return environment


def answers(patch: pytest.MonkeyPatch, message: str) -> None:
    """Has the process that asks ttnn say this."""
    patch.setattr(silicon, "_ASK", f"print({message!r})")


def refusal(mesh: str = "1x1", arch: str = "wormhole_b0") -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        silicon.activate(mesh, arch)
    return str(caught.value)


@pytest.mark.parametrize("mesh", ["1x1", "1x2", "2x1"])
def test_it_sets_what_cards_need(cards: pytest.MonkeyPatch, mesh: str, tmp_path: Path) -> None:
    """Nothing that another target left behind; what chooses among the cards stays."""
    for name in wheel.SWITCHES:
        os.environ[name] = "left over"
    assert silicon.activate(mesh, "wormhole_b0") == "2 wormhole_b0 devices, ttnn 0.81.1"
    assert {name for name in wheel.SWITCHES if name in os.environ} == set(silicon.CHOICES)
    assert os.environ["TT_METAL_LOGS_PATH"] == f"{tmp_path}/cache/silicon/logs"


def test_a_machine_without_a_card_is_refused(cards: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether the driver is there without one or not at all; ttnn is not asked."""
    answers(cards, "asked")
    for nodes in (tmp_path / "dev", tmp_path / "none"):
        cards.setattr(silicon, "NODES", nodes)
        (tmp_path / "dev" / "0").unlink(missing_ok=True)
        assert refusal() == (
            f"target 'silicon': there is no card: nothing in {nodes}, where Tenstorrent's driver, tt-kmd, lists them"
        )


def test_what_the_cards_are_not_is_refused(cards: pytest.MonkeyPatch) -> None:
    """A mesh that is none, one of more devices than there are, another architecture."""
    assert refusal("abc") == "mesh 'abc': give rows x columns, such as 1x1"
    assert refusal("1x8") == "mesh '1x8': needs 8 devices, the cards here have 2"
    assert refusal(arch="blackhole") == "arch 'blackhole': the cards here are wormhole_b0"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "import time; time.sleep(60)",
            "the cards did not answer within 0.5 s: another process may have them open",
        ),
        (
            "import sys; sys.exit('some\\nImportError: no libnuma')",
            "ttnn cannot open the cards (ImportError: no libnuma)",
        ),
        ("import os; os.abort()", "ttnn cannot open the cards (exit status -6)"),
    ],
    ids=["hangs", "fails", "crashes"],
)
def test_cards_that_do_not_answer_are_refused(cards: pytest.MonkeyPatch, code: str, says: str) -> None:
    """A process that hangs, fails or dies on opening them is not this one."""
    cards.setattr(silicon, "_ASK", code)
    cards.setattr(silicon, "TIME_LIMIT", 0.5 if "sleep" in code else 60)
    assert refusal() == f"target 'silicon': {says}"


@pytest.mark.parametrize(
    ("board", "result"),
    [("n300", (2, "wormhole_b0")), pytest.param("p150", (1, "blackhole"), marks=pytest.mark.slow)],
)
def test_the_real_ttnn_counts_and_names_the_devices(
    needs_ttnn: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, board: str, result: tuple[int, str]
) -> None:
    """Those of a mock cluster, by the calls that are made for cards."""
    cluster = resources.files("harness.targets") / "clusters" / f"{board}.yaml"
    monkeypatch.setenv("TT_METAL_MOCK_CLUSTER_DESC_PATH", str(cluster))
    monkeypatch.setenv("TT_METAL_LOGS_PATH", str(tmp_path))
    assert silicon._cards() == result


@pytest.mark.slow
def test_the_real_ttnn_says_why_it_opens_none(
    needs_ttnn: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where device files are there and no card answers behind them."""
    if silicon.NODES.exists():
        pytest.skip("this machine has cards: what ttnn says without one was not checked")
    monkeypatch.setenv("TT_METAL_LOGS_PATH", str(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"^target 'silicon': ttnn cannot open the cards \(No chips detected in the cluster\)$",
    ):
        silicon._cards()


def test_the_cards_compute(tmp_path: Path) -> None:
    """On a machine that has one: a matmul's numbers, and a trace of it."""
    if not silicon.NODES.exists():
        pytest.skip(f"there is no {silicon.NODES}: silicon was not checked")
    code = """
from harness.targets import activate
activate("silicon")
import torch, ttnn
from tt_llm.mesh import open_mesh, replicate, to_host
from tt_llm.trace import TracedStep
device = open_mesh((1, 1))
a, b = (replicate(torch.full((1, 1, 32, 32), value), device, ttnn.bfloat16) for value in (0.5, 3.0))
step = TracedStep(device, lambda: ttnn.matmul(a, b))
print([to_host(step.run()).unique().tolist() for _ in range(3)])
ttnn.close_mesh_device(device)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout == "[[48.0], [48.0], [48.0]]\n"
