"""`tt-harness lm-eval` on a tiny model, and the commands of its page in the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from lm_eval.tasks import TaskManager

from harness.report.reproduce import command
from harness.results.schema import Record, read_results

PAGE = Path(__file__).parents[2] / "docs" / "lm-eval.md"
FENCE = re.compile(r"^```(\w+) run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def records(self) -> dict[tuple[str, str], Record]:
        """By task and metric."""
        records = read_results(self.folder / "results" / "results.json").records
        return {(record.module, record.metric): record for record in records}

    @property
    def fault(self) -> str:
        """The one line a refused command has to say."""
        assert self.status == 2, self
        line, rest = self.err[self.err.index("error: ") :].split("\n", 1)
        assert not rest
        assert not (self.folder / "results" / "results.json").exists()
        return line


Start = Callable[..., Done]


@pytest.fixture
def start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Start:
    """start(*arguments) runs `tt-harness lm-eval` with them, on the tiny model and the session's target."""
    from harness.cli.app import app
    from harness.targets import active

    monkeypatch.chdir(tmp_path)
    # A description of the machine, for which lm-eval starts a dozen programs.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)

    def start(*arguments: str) -> Done:
        mode = [f"--emulator-mode={active().mode}"] if active().mode else []
        with pytest.raises(SystemExit) as left:
            app(["lm-eval", *arguments, f"--model={folder}", *mode])
        out, err = capfd.readouterr()
        assert isinstance(left.value.code, int)
        return Done(left.value.code, out, err, tmp_path)

    return start


def test_lm_evals_table_and_the_verdict(start: Start, tmp_path: Path) -> None:
    result = start(
        *shlex.split("--tasks tt_choice,tt_text --limit 8 --batch_size 16 --output_path own --log_samples")
    )
    assert result.status in (0, 2)  # eight questions are few
    assert result.out.count("|tt_choice|") == 2  # golden and device
    assert "VERDICT" in result.out
    assert "lm-eval tasks, precision accuracy" in result.out
    assert set(result.records) == {
        ("tt_choice", "task_loss"),
        ("tt_choice", "task_nll_change"),
        ("tt_text", "task_perplexity_error"),
    }
    change = result.records["tt_choice", "task_nll_change"]
    assert change.value is not None
    assert 0 < change.value < 0.2
    assert change.n == 8
    again = command(change, read_results(tmp_path / "results" / "results.json").environment)
    assert again.startswith("tt-harness lm-eval --tasks tt_choice,tt_text --limit 8 --batch_size 16")
    assert "--precision=accuracy" in again
    assert "tt-harness lm-eval" in (tmp_path / "results" / "report.html").read_text()
    assert len(list((tmp_path / "own").rglob("samples_tt_choice_*.jsonl"))) == 2


def test_a_wrong_device_is_a_regression(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from tt_llm import Generator

    prefill = Generator.prefill_forward

    def too_sure(self: Generator, *args: object, **kwargs: object) -> torch.Tensor:
        return prefill(self, *args, **kwargs) * 2

    monkeypatch.setattr(Generator, "prefill_forward", too_sure)
    result = start("--tasks", "tt_choice", "--limit", "24")
    assert result.status == 1
    assert result.records["tt_choice", "task_nll_change"].verdict == "regression"
    assert "regression" in result.out


def test_golden_and_device_never_share_a_cache(start: Start, tmp_path: Path) -> None:
    arguments = shlex.split("--tasks tt_exact --limit 4 --use_cache answers")
    first = start(*arguments)
    assert len(list(tmp_path.glob("answers-*.db"))) == 2
    again = start(*arguments)
    assert again.records == first.records
    assert len(list(tmp_path.glob("answers-*.db"))) == 2
    start(*arguments, "--model_args", "max_length=512")
    assert len(list(tmp_path.glob("answers-*.db"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "tt_choice", "--precision", "accurate"], "accurate"),
        (["--tasks", "tt_choice", "--model_args", "dtype=float16"], "dtype"),
        (["--tasks", "tt_choice", "--model_args", "max_length=1"], "max_length 1"),
        (["--tasks", "tt_choice", "--batch_size", "auto"], "batch size auto"),
        (["--tasks", "tt_choice", "--batch_size", "33"], "1 to 32"),
        (["--tasks", "tt_choice", "--device", "cuda"], "--target"),
        (["--tasks", "tt_choice", "--limit", "2", "--samples", '{"tt_choice": [1]}'], "limit"),
        (["--tasks", "tt_choice", "--target", "dryrun"], "dryrun"),
        (["--tasks", "tt_exact", "--limit", "1", "--gen_kwargs", "do_sample=True"], "greedily"),
        (["--tasks", "tt_exact", "--limit", "1", "--gen_kwargs", "max_gen_toks=-4"], "max_gen_toks -4"),
        (["--tasks", "tt_choice", "--limit", "0"], "--limit 0"),
        (["--tasks", "tt_choice", "--limit", "-1"], "--limit -1"),
        (["--tasks", "tt_choice", "--limit", "nan"], "--limit nan"),
        (["--tasks", "tt_choice", "--include_path", "nowhere"], "--include_path nowhere"),
        (["--tasks", "tt_choice", "--num_fewshot", "-1"], "--num_fewshot -1"),
        (["--tasks", "tt_choice", "--limit", "1", "--num_fewshot", "9999"], "AssertionError"),
        (["--tasks", "tt_choice", "--fewshot_as_multiturn", "true"], "apply_chat_template"),
        (["--tasks", "tt_choice", "--model_args", "prefix_token_id=abc"], "prefix_token_id 'abc'"),
        (["--tasks", "tt_choice", "--limit", "1", "--use_cache", "/proc/none"], "OperationalError"),
        (["--tasks", ","], "tasks none"),
    ],
)
def test_what_cannot_be_run_is_one_line(start: Start, arguments: list[str], message: str) -> None:
    assert message in start(*arguments).fault


def test_a_target_without_numbers_evaluates_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.evaluation import lm_eval_model

    blind = replace(lm_eval_model.active(), computes=False)
    monkeypatch.setattr(lm_eval_model, "active", lambda: blind)
    assert "computes no numbers" in start("--tasks", "tt_choice").fault


def test_a_task_that_is_not_there_is_one_line(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.evaluation import samples

    def without_lm_evals_own(include_defaults: bool, **kwargs: object) -> TaskManager:
        return TaskManager(include_defaults=False, **kwargs)  # indexing those takes many seconds

    monkeypatch.setattr(samples, "TaskManager", without_lm_evals_own)
    assert "tt_chioce" in start("--tasks", "tt_choice,tt_chioce").fault


def test_the_pages_commands_run(start: Start, folder: Path, tmp_path: Path) -> None:
    blocks = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"sh", "python"}
    for language, text in blocks:
        if language == "python":
            exec(text.replace("smollm2", str(folder)).replace("limit=50", "limit=2"), {})
            continue
        for line in text.replace("\\\n", " ").splitlines():
            program, command, *arguments = shlex.split(line, comments=True)
            assert (program, command) == ("tt-harness", "lm-eval")
            result = start(*arguments, "--limit", "2")
            assert result.status in (0, 2), result
            assert result.records
