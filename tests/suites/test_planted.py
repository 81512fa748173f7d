"""No check is blind: for each of suites/metamorphic and suites/model a planted mistake that turns it red."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# check -> a mistake of the kind that it is for
INVARIANCES = {
    "test_batch.py::test_others_in_the_batch": "everyone_decodes_the_first_users_token",
    "test_batch.py::test_users_at_other_positions": "everyone_at_the_first_users_position",
    "test_batch.py::test_prompts_in_another_order": "prompts_come_back_in_reverse",
    "test_batch.py::test_rows_without_a_user_write_nothing": "rows_without_a_user_are_written",
    "test_pages.py::test_order_of_pages": "pages_taken_to_lie_in_a_row",
    "test_pages.py::test_pages_of_others": "prefill_with_a_page_table_of_its_own",
    "test_pages.py::test_pages_not_allocated": "padding_written_into_unallocated_pages",
    "test_prompts.py::test_padding": "prompt_lengths_ignored",
    "test_prompts.py::test_tokens_after": "mask_one_off",
    "test_steps.py::test_what_the_cache_holds_beyond": "decode_sees_one_more",
    "test_steps.py::test_a_step_is_the_next_row": "values_cached_as_keys",
    "test_steps.py::test_generated_text_is_the_likeliest_token_each_time": "greedy_tokens_not_fed_back",
}
MODEL = {
    "test_decode.py::test_step_after_prefill": "values_cached_as_keys",
    "test_generate.py::test_greedy_continuation": "greedy_tokens_not_fed_back",
    "test_kv_cache.py::test_after_prefill": "last_page_of_the_prompt_not_written",
    "test_kv_cache.py::test_after_decode": "decoded_row_not_written",
    "test_prefill.py::test_logits_of_every_position": "token_ids_one_off",
    "test_prefill.py::test_prompt_that_fills_no_tile": "drop_causal_mask",
    "test_prefill.py::test_last_token_alone": "last_row_but_one",
}
FULL_BATCH = {
    "test_generate.py::test_a_full_batch_of_prompts": "every_prompt_in_the_first_users_pages",
    "test_generate.py::test_prompts_alone": "everyone_reads_the_first_users_pages",
}
Judged = Callable[..., list[dict[str, Any] | None]]


@pytest.fixture
def judged(tmp_path: Path, save_llama: Callable[..., Path]) -> Judged:
    """judged((fault or None, tests), ...): what a small model makes of tests of the suites, run by run."""
    model = save_llama(
        tmp_path / "one-layer",
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    options = [
        "--tt-emulator-mode=fast",
        f"--tt-model={model}",
        f"--tt-goldens={tmp_path}",
        "--tt-update-goldens",
    ]

    def run(*runs: tuple[str | None, str]) -> list[dict[str, Any] | None]:
        asked = {"options": options, "runs": [{"fault": fault, "tests": [test]} for fault, test in runs]}
        command = [sys.executable, "-m", "tests.suites.planted_runs"]
        process = subprocess.run(
            command, input=json.dumps(asked), cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert process.returncode == 0, process.stderr[-3000:]
        written: list[dict[str, Any] | None] = json.loads(process.stdout)
        return written

    return run


def assert_red(suite: str, breaks: dict[str, str], runs: list[dict[str, Any] | None]) -> None:
    """All cases of each check, by a figure or an assertion: a mistake that an op refuses has not been seen."""
    for (check, fault), run in zip(breaks.items(), runs, strict=True):
        assert run is not None, f"{check} under {fault}: its process died"
        red, raised, ran = run["red"], run["raised"], run["ran"]
        assert ran, f"{check} under {fault} did not run"
        assert len(red) == ran, f"{check} under {fault}: red in {len(red)} of {ran} cases, {red}"
        assert all(case.startswith(f"suites/{suite}/{check}[") for case in red), red
        assert raised == [], f"{check} under {fault}"


@pytest.mark.parametrize(
    ("suite", "breaks"),
    [("metamorphic", INVARIANCES), ("model", MODEL | FULL_BATCH)],
    ids=["metamorphic", "model"],
)
def test_every_check_has_a_mistake_that_breaks_it(suite: str, breaks: dict[str, str]) -> None:
    """A check that is added to a suite without one is named here."""
    checks = {
        f"{file.name}::{node.name}"
        for file in (ROOT / "suites" / suite).glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert checks == set(breaks)


def test_each_invariance_can_be_broken(judged: Judged) -> None:
    """Without a mistake none is."""
    planted = [(fault, f"suites/metamorphic/{check}") for check, fault in INVARIANCES.items()]
    healthy, *broken = judged((None, "suites/metamorphic"), *planted)
    assert healthy is not None
    assert healthy["ran"] >= len(INVARIANCES)
    assert healthy["red"] == []
    assert_red("metamorphic", INVARIANCES, broken)


@pytest.mark.slow
@pytest.mark.parametrize("breaks", [MODEL, FULL_BATCH], ids=["few", "full_batch"])
def test_each_check_of_the_whole_model_turns_red(judged: Judged, breaks: dict[str, str]) -> None:
    """Against the goldens; that a healthy model is green there, other tests show."""
    assert_red("model", breaks, judged(*[(fault, f"suites/model/{c}") for c, fault in breaks.items()]))
