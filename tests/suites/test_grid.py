"""Weights sharded in 2D are the real ttnn's ops too, on a mock T3K as a grid and on a mock Galaxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("needs_ttnn")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """Eight key-value heads, and whole tiles of everything on 8x4."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "grid",
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=1,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=32,
    )


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["2x4", "8x4"])
def test_both_answer_with_the_same_ops(mesh: str, model: Path, run_suites: Any) -> None:
    """Sums along one axis and gathers along the other, and with the all-gather matmul the devices in a row: the same stream, op by op."""
    arguments = ("suites/conformance/test_stream.py", f"--tt-mesh={mesh}", f"--tt-model={model}")
    result = run_suites(*arguments, "--tt-precision=performance,accuracy")
    assert [r.verdict for r in result.records] == ["pass", "pass"], result.said
