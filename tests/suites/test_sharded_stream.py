"""A model wide enough for a sharded residual stream takes the real ttnn's ops on eight devices, distributed norms included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tt_llm.split import SHARDED_STREAM_DIM

pytestmark = pytest.mark.usefixtures("needs_ttnn")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, save_byte_tokenizer: Callable[[Path], None]) -> Path:
    """One layer as wide as the rule asks, and little else."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=SHARDED_STREAM_DIM,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "wide"
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


@pytest.mark.slow
def test_both_answer_with_the_same_ops(wide: Path, run_suites: Any) -> None:
    """Sums divided over the devices, scattered and normed there: op by op the same stream under emulator and dry run."""
    given = ("suites/conformance/test_stream.py", "--tt-mesh=1x8", f"--tt-model={wide}")
    done = run_suites(*given, "--tt-precision=performance")
    assert [r.verdict for r in done.records] == ["pass"], done.said
