"""A model wide enough for a sharded residual takes the real ttnn's ops on many devices, distributed norms included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tt_llm.tensor_parallel import SHARDED_RESIDUAL_DIM

pytestmark = pytest.mark.usefixtures("needs_ttnn")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """One layer as wide as the rule asks, and little else."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "wide",
        vocab_size=1024,  # a tile for each device of a Galaxy
        hidden_size=SHARDED_RESIDUAL_DIM,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        initializer_range=0.02,
    )


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["1x8", "8x4"])
def test_both_answer_with_the_same_ops(mesh: str, wide: Path, run_suites: Any) -> None:
    """Sums divided over the devices, scattered and normed there: op by op the same stream under emulator and dry run."""
    arguments = ("suites/conformance/test_stream.py", f"--tt-mesh={mesh}", f"--tt-model={wide}")
    result = run_suites(*arguments, "--tt-precision=performance")
    assert [r.verdict for r in result.records] == ["pass"], result.said
