"""The suites see what only a mesh can get wrong: each planted mistake turns red, and the report names module and device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.faults import MESH_FAULTS

Run = Callable[..., Any]
# fault -> what some failing record or its note must name
NAMED = {
    "dropped_all_reduce": ("mlp", "input of model.layers.1.input_layernorm: device 1 differs from device 0"),
    "averaged_all_reduce": ("mlp", "attention"),
    "wo_sharded_on_the_wrong_dim": ("attention",),
    "swapped_kv_heads": ("kv_cache", "device 0, head 0", "device 1, head 1"),
    "stale_cache_on_one_device": ("kv_cache", "device 1, head 1"),
    "padded_vocabulary_wins": ("lm_head",),
    "devices_joined_in_reverse": ("lm_head",),
    "columns_gathered_in_reverse": ("mlp", "attention"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """Two layers, four query heads of two key-value heads, and a vocabulary that fills no whole tile on two devices."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "four-heads",
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=False,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("goldens")


@pytest.fixture
def judged(model: Path, store: Path, run_suites: Run) -> Run:
    """judged(*arguments) runs what a mesh can break on two devices."""
    modules = [f"suites/modules/test_{name}.py" for name in ("attention", "mlp", "lm_head")]
    options = ("--tt-mesh=1x2", "--tt-emulator-mode=fast", "--tt-strict", "--tt-update-goldens")
    command = "suites/devices", *modules, *options, f"--tt-model={model}", f"--tt-goldens={store}"
    return lambda *arguments: run_suites(*command, *arguments)


def test_a_healthy_model_is_green_on_two_devices(judged: Run) -> None:
    """Every device's cache, every layer's residual, and the perplexity and greedy text of one device alone."""
    records = judged().records
    assert [r for r in records if r.verdict != "pass"] == []
    expected = {"mesh_perplexity_change", "mesh_agreement_length", "mesh_flip_cost"}
    assert expected <= {r.metric for r in records}
    assert any(r.note == "device 1, head 1" for r in records)


@pytest.mark.slow
def test_the_devices_of_a_row_hold_the_same_heads(judged: Run) -> None:
    """On 2x4, weights sharded in 2D: each head on the four devices of its row, and all devices agree."""
    options = "-k", "caches_its_own_heads or agree_after_every_layer"
    records = judged("--tt-mesh=2x4", "--tt-precision=performance", *options).records
    assert [r for r in records if r.verdict != "pass"] == []
    notes = {r.note for r in records if r.module == "kv_cache"}
    assert notes == {f"device {device}, head {device // 4}" for device in range(8)}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault == "dropped_all_reduce" else pytest.mark.slow)
        for fault in sorted(MESH_FAULTS)
    ],
)
def test_each_mistake_is_seen_and_named(fault: str, judged: Run) -> None:
    """Some record that is not pass names the module, and, where devices differ, the device."""
    precision = MESH_FAULTS[fault].precision
    red = judged("-p", "harness.faults", "--tt-fault", fault, f"--tt-precision={precision}").red
    output = " ".join(f"{r.module} {r.note}" for r in red)
    for name in NAMED[fault]:
        assert name in output
    metrics = {r.metric for r in red}
    if fault == "averaged_all_reduce":  # all devices agree on it: only one device alone and the golden tell
        assert "mesh_perplexity_change" in metrics
    if fault == "columns_gathered_in_reverse":
        assert {"mesh_perplexity_change", "mesh_agreement_length", "mesh_flip_cost"} <= metrics


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["performance", "bfp4_mlp"])
def test_greedy_text_that_is_wrong_is_seen_under_coarse_policies(precision: str, judged: Run) -> None:
    """Their gates let near ties flip; a device's part of the vocabulary in another's place is none."""
    options = "-k", "of_one_device", f"--tt-precision={precision}"
    verdicts = {
        r.metric: r.verdict
        for r in judged("-p", "harness.faults", "--tt-fault", "devices_joined_in_reverse", *options).records
    }
    assert verdicts["mesh_agreement_length"] == verdicts["mesh_flip_cost"] == "regression"
    # Of a random model some tokens get likelier and as many less likely: the test cannot tell, and does not pass it.
    assert verdicts["mesh_perplexity_change"] != "pass"
