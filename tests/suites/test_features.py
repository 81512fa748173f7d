"""The features suite is green on a healthy model, and names what is wrong with a trace of one that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# fault -> the test that sees it, and what that says; those that a capture refuses are in tests/tt_llm/test_trace.py
NAMED = {
    "stale_page_table": ("test_what_happens_between_steps_reaches_the_trace", "changed_values"),
    "stale_positions": ("test_a_traced_step_is_the_step", "changed_values"),
    "greedy_tokens_not_fed_back": ("test_greedy_text_is_the_same", "changed_values"),
    "unordered_queues": (
        "test_a_traced_step_is_the_step",
        "reads on queue 0 what is written by ttnn.copy_host_to_device_tensor at tt_llm/decoding.py",
        "no event orders the two",
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """One layer, a vocabulary that fills no whole tile."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "one-layer",
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )


@pytest.fixture
def judged(model: Path, run_suites: Callable[..., Any]) -> Callable[..., Any]:
    command = "suites/features", "--tt-emulator-mode=fast", f"--tt-model={model}"
    return lambda *arguments: run_suites(*command, *arguments)


def test_traces_change_nothing(judged: Callable[..., Any]) -> None:
    """On two devices; tests/tt_llm/test_trace.py has every policy."""
    result = judged("--tt-mesh=1x2", "--tt-precision=performance")
    assert result.status == 0, result.said[-2000:]
    values = [record.value for record in result.records if record.metric == "changed_values"]
    assert values == [0.0] * 3


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault == "unordered_queues" else pytest.mark.slow)
        for fault in sorted(NAMED)
    ],
)
def test_each_mistake_is_seen_and_named(fault: str, judged: Callable[..., Any]) -> None:
    """By the test that is for it."""
    test, *names = NAMED[fault]
    result = judged("-p", "harness.faults", "--tt-fault", fault, "-k", test)
    assert result.status == 1
    output = " ".join(result.said.split())
    for name in (f"::{test}[", *names):
        assert name in output


@pytest.mark.slow
@pytest.mark.usefixtures("needs_ttnn")
def test_a_transfer_too_many_is_seen(model: Path, run_suites: Callable[..., Any]) -> None:
    """On the dry run, which counts them in the graph that the real ttnn captures."""
    test = "test_a_greedy_step_moves_only_its_tokens"
    options = "suites/features", "-k", test, "--tt-target=dryrun", f"--tt-model={model}"
    assert run_suites(*options).status == 0
    result = run_suites(*options, "-p", "harness.faults", "--tt-fault", "tokens_read_twice")
    assert result.status == 1
    assert f"::{test}[" in result.said
    assert "assert more[len(fewer) :] ==" in result.said
