"""The real vLLM with Tenstorrent's plugin, driving the model on the emulator: run by `.ci/serving`, in an environment that has both.

Every request must get, token for token, what the generator answers to it alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serving.prompts import drawn
from tests.serving.tiny import WORDS, write_tiny

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIMIT = 600  # seconds a program may take
LENGTHS = [
    1,
    2,
    3,
    31,
    32,
    33,
    63,
    64,
    65,
    96,
    100,
    127,
    128,
    129,
    150,
    160,
    191,
    192,
    199,
    200,
    7,
    45,
    80,
    111,
    170,
    20,
    1,
]
PROMPTS, NEW = drawn(5, LENGTHS, 40)
ACCURACY = {"additional_config": {"tt": {"optimizations": "accuracy"}}}
ENGINE = {"block_size": 32, "max_model_len": 250, "max_num_seqs": 8}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """environment(target): what a user sets, as docs/serving.md has it."""
    models = tmp_path_factory.mktemp("models")
    (models / "llama").mkdir()
    metadata = {"arch": "LlamaForCausalLM", "main_class": "tt_llm.vllm:LlamaForCausalLM"}
    (models / "llama" / "vllm_metadata.json").write_text(json.dumps(metadata))

    def made(target: str) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TT_HARNESS_TARGET": target,
            "EXTRA_MODELS_DIR": str(models),
            "TT_VLLM_BUILTIN_MODELS": "0",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }

    return made


@pytest.fixture(scope="session")
def run(folder: Path, environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """run(program, asked, target): what a program of this folder answers."""

    def answered(program: str, asked: dict[str, Any], target: str) -> Any:
        file = tmp_path_factory.mktemp("answers") / "answers.json"
        done = subprocess.run(
            [sys.executable, str(HERE / program), json.dumps(asked), str(file)],
            env={**environment(target), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return json.loads(file.read_text())

    return answered


@pytest.fixture(scope="session")
def alone(run: Any, folder: Path) -> Callable[..., list[list[int]]]:
    """alone(mesh, precision): the generator's answers to PROMPTS, one after the other."""
    made: dict[tuple[str, str], list[list[int]]] = {}

    def answers(mesh: str = "1x1", precision: str = "performance") -> list[list[int]]:
        if (mesh, precision) not in made:
            asked = {
                "model": str(folder),
                "mesh": [int(n) for n in mesh.split("x")],
                "precision": precision,
                "prompts": PROMPTS,
                "new": NEW,
            }
            made[mesh, precision] = run("alone.py", asked, f"emulator mesh={mesh} mode=fast")["answers"]
        return made[mesh, precision]

    return answers


@pytest.mark.parametrize(
    ("mesh", "options", "cache"),
    [
        pytest.param("1x1", {}, None, id="as it is"),
        pytest.param("1x1", {"block_size": 64}, None, id="blocks of 64"),
        pytest.param("1x1", {"async_scheduling": False}, None, id="waiting for each step"),
        pytest.param("1x1", {"additional_config": {"tt": {"trace_mode": "none"}}}, None, id="no traces"),
        pytest.param("1x1", {"max_num_seqs": 32}, None, id="32 seats"),
        # What was a decode step's is computed again by a prefill, whose sums go another way: a near tie of `performance` may turn.
        pytest.param("1x1", ACCURACY, 350, id="too few blocks"),
        pytest.param("1x2", {}, None, id="two devices"),
    ],
)
def test_every_request_gets_what_it_gets_alone(
    run: Any, alone: Any, folder: Path, mesh: str, options: dict[str, Any], cache: int | None
) -> None:
    """27 prompts of 1 to 200 tokens over 8 seats; where blocks run out, requests are preempted and computed again."""
    asked = {
        "engine": {"model": str(folder), **ENGINE, **options},
        "prompts": PROMPTS,
        "new": NEW,
        "cache": cache,
    }
    served = run("offline.py", asked, f"emulator mesh={mesh} mode=fast")
    expected = alone(mesh, *(["accuracy"] if options is ACCURACY else []))
    wrong = [n for n, (a, b) in enumerate(zip(served["answers"], expected, strict=True)) if a != b]
    print(f"{len(PROMPTS) - len(wrong)} of {len(PROMPTS)} equal, {served['preemptions']} preemptions")
    assert not wrong
    assert (served["preemptions"] > 0) == (cache is not None)


@pytest.fixture(scope="module")
def url(folder: Path, environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server, with its engine in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        str(Path(sys.executable).with_name("vllm")),
        "serve",
        str(folder),
        "--served-model-name",
        "tiny",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in ENGINE.items()]
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env=environment("emulator mode=fast"),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + LIMIT
        while not _healthy(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < until, log.read_text()[-4000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def completion(url: str, prompt: list[int], new: int, **options: Any) -> Any:
    """What the openai client gets."""
    from openai import OpenAI

    with OpenAI(base_url=url, api_key="none", timeout=LIMIT) as client:
        return client.completions.create(
            model="tiny",
            prompt=prompt,
            max_tokens=new,
            temperature=0.0,
            extra_body={"ignore_eos": True, "return_token_ids": True, **options},
        )


def test_a_server_answers_eight_clients_as_if_each_were_alone(url: str, alone: Any) -> None:
    """Each asks four times, one question after the other."""
    questions = [[(8 * turn + client) % len(PROMPTS) for turn in range(4)] for client in range(8)]

    def ask(numbers: list[int]) -> list[list[int]]:
        return [completion(url, PROMPTS[n], NEW[n]).choices[0].token_ids for n in numbers]

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, questions))
    expected = [[alone()[n] for n in numbers] for numbers in questions]
    equal = sum(
        a == b for one, other in zip(answers, expected, strict=True) for a, b in zip(one, other, strict=True)
    )
    print(f"{equal} of 32 equal")
    assert answers == expected


def test_a_request_that_cannot_be_run_takes_no_other_with_it(url: str, alone: Any) -> None:
    """A word that the tokenizer knows and the model does not: its text ends at once, and the next request is answered."""
    bad = completion(url, [1, WORDS + 5, 2], 8, ignore_eos=False)
    assert bad.choices[0].finish_reason == "stop"
    assert bad.usage.completion_tokens == 1
    assert completion(url, PROMPTS[0], NEW[0]).choices[0].token_ids == alone()[0]
