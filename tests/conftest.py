"""What tests of several rooms need: small models of their own, and whole runs of pytest and tt-harness on one of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
ENGINEERS_TEST = """
import pytest

@pytest.mark.tt_golden("mlp", layer=0, phase="prefill", seq_len=[32, 64])
def test_mlp(mesh_device, tt_module, golden, compare):
    actual = tt_module(golden.inputs)
    compare(actual, golden.output)
"""


@pytest.fixture(scope="session")
def save_byte_tokenizer() -> Callable[[Path], None]:
    """save_byte_tokenizer(folder) gives a model's folder a tokenizer of 256 tokens, one a byte."""

    def save(folder: Path) -> None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT).save_pretrained(folder)

    return save


@pytest.fixture(scope="session")
def save_llama(save_byte_tokenizer: Callable[[Path], None]) -> Callable[..., Path]:
    """save_llama(folder, **settings of LlamaConfig) makes it a model's folder: weights of a fixed seed, bytes for tokens."""

    def save(folder: Path, **settings: Any) -> Path:
        usual = {
            "vocab_size": 256,
            "max_position_embeddings": 2048,
            "initializer_range": 0.2,  # large enough for attention and RoPE to matter
            "bos_token_id": None,
            "eos_token_id": None,
        }
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**usual | settings), dtype=torch.float32)
        model.save_pretrained(folder)
        save_byte_tokenizer(folder)
        return folder

    return save


@dataclass(frozen=True)
class Done:
    """A run that has ended."""

    status: int
    out: str
    err: str
    results: Path

    @property
    def records(self) -> list[dict[str, Any]]:
        return json.loads(self.results.read_text())["records"]

    @property
    def fault(self) -> str:
        """The one line a refused run has to say."""
        lines = [line for line in (self.out + self.err).splitlines() if line.strip()]
        assert self.status == 2, self
        assert len(lines) == 1, self
        return lines[0]


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """A Hugging Face folder: two layers, head_dim 32, a vocabulary of bytes, weights from a fixed seed."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "tiny",
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )


class Server:
    """The process of forked_runs.py, which imports the slow libraries once for all runs."""

    def __init__(self, cache: Path) -> None:
        environment = os.environ | {
            "TT_HARNESS_CACHE": str(cache),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
        }
        script = [sys.executable, str(Path(__file__).with_name("forked_runs.py"))]
        self._process = subprocess.Popen(
            script, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, argv: Sequence[str], folder: Path, file_limit: int | None = None) -> Done:
        """Runs a command in a folder; `file_limit` is the size in bytes that no file may exceed."""
        files = {name: folder / f".{name}" for name in ("out", "err")}
        request = {"argv": argv, "cwd": str(folder), "file_limit": file_limit}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps(request | {k: str(v) for k, v in files.items()}), file=self._process.stdin, flush=True
        )
        status = int(self._process.stdout.readline())
        texts = [file.read_text() for file in files.values()]
        for file in files.values():
            file.unlink()
        return Done(status, *texts, folder / "results.json")

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("cache"))
    yield server
    server.close()


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Run:
    """start("pytest", *arguments, file_limit=None) runs a command in the test's folder."""
    return lambda *argv, **limits: server.run(argv, tmp_path, **limits)


@pytest.fixture
def judge(start: Run, model: Path, store: Path, tmp_path: Path) -> Run:
    """judge(source, *arguments) runs pytest on one test file, with the tiny model and the store, and keeps its records."""

    def run(source: str, *arguments: str, **limits: Any) -> Done:
        (tmp_path / "test_mine.py").write_text(source)
        options = ("-p", "no:cacheprovider", f"--tt-model={model}", f"--tt-goldens={store}")
        return start("pytest", "-q", *options, "--tt-results=results.json", *arguments, **limits)

    return run


@pytest.fixture(scope="session")
def made(model: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the goldens of `ENGINEERS_TEST`. Not to be written to: take `store`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "test_make.py").write_text(ENGINEERS_TEST)
    options = ("-p", "no:cacheprovider", f"--tt-model={model}", f"--tt-goldens={folder / 'store'}")
    result = server.run(["pytest", "--collect-only", "--tt-update-goldens", *options], folder)
    assert result.status == 0, result
    return folder / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A golden store of the test's own that holds the goldens of `ENGINEERS_TEST`."""
    return Path(shutil.copytree(made, tmp_path / "store"))


@pytest.fixture
def retrained(model: Path, tmp_path: Path) -> Path:
    """A model of the same name and shape with other weights."""
    folder = Path(shutil.copytree(model, tmp_path / "retrained" / model.name))
    weights = {name: tensor * 1.25 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def engineers_test() -> str:
    return ENGINEERS_TEST


@pytest.fixture(scope="session")
def flip_byte() -> Callable[[Path, int], None]:
    """flip_byte(file, at) flips one bit of the byte at that offset; a negative one counts from the end."""

    def flip(file: Path, at: int) -> None:
        content = bytearray(file.read_bytes())
        content[at] ^= 0x40
        file.write_bytes(content)

    return flip
