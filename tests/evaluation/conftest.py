"""A tiny random Llama whose tokens are bytes, and what answers lm-eval's requests with its weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

if TYPE_CHECKING:  # pytest may read this file before the plugin has put a target in place of ttnn
    from harness.evaluation.lm_eval_model import CausalLM

MAX_LENGTH = 256
# 256 bytes, the end and the beginning of a text, then ids that no text has; it fills no whole tiles.
END, BEGIN, VOCABULARY = 256, 257, 300


@pytest.fixture(scope="session", autouse=True)
def offline(monkeypatch_session: pytest.MonkeyPatch) -> None:
    """Nothing here needs a network, and nothing may use one."""
    monkeypatch_session.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch_session.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(scope="session")
def monkeypatch_session() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """Two layers, weights from a fixed seed."""
    folder = save_llama(
        tmp_path_factory.mktemp("models") / "tiny",
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def begun_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a tokenizer that puts a token before each text, as Llama's does."""
    begun = tmp_path_factory.mktemp("models") / "begun"
    shutil.copytree(folder, begun)
    tokenizer = AutoTokenizer.from_pretrained(begun)
    tokenizer.add_special_tokens({"bos_token": "<begin>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", BEGIN)]
    )
    tokenizer.save_pretrained(begun)
    return begun


@pytest.fixture(scope="session")
def golden(folder: Path) -> CausalLM:
    """The adapter over fp32 PyTorch."""
    from harness.evaluation.lm_eval_model import GoldenLM

    return GoldenLM(str(folder), batch_size=8, max_length=MAX_LENGTH)


@pytest.fixture(scope="session")
def device(folder: Path) -> CausalLM:
    """The adapter over the device model."""
    from harness.evaluation.lm_eval_model import DeviceLM
    from harness.targets import active

    mode = active().mode
    return DeviceLM(str(folder), emulator_mode=mode, batch_size=8, max_length=MAX_LENGTH)


@pytest.fixture(scope="session")
def hf(folder: Path) -> HFLM:
    """lm-eval's own model on the same weights."""
    return HFLM(str(folder), dtype="float32", device="cpu", batch_size=8, max_length=MAX_LENGTH)
