"""lm-eval's command line, run for one model after the other on the same tasks, and the samples it gives."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval._cli.run import Run
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

from harness.errors import UserError
from harness.evaluation.lm_eval_model import BATCH_SIZE, CausalLM
from harness.evaluation.tasks import FOLDER

# What --model_args may hold: the rest is said by options of the harness.
MODEL_ARGS = ("max_length", "add_bos_token", "prefix_token_id", "share_prefixes")
# Options of lm-eval that say what another option of ours says.
INSTEAD = {"model": "--model", "device": "--target", "max_batch_size": "--batch_size"}
# Options that are for lm-eval alone: where results are sent, what is not judged, code from elsewhere.
ELSEWHERE = (
    "wandb_args",
    "wandb_config_args",
    "trackio_args",
    "hf_hub_log_args",
    "predict_only",
    "trust_remote_code",
)


@dataclass(frozen=True)
class Sample:
    """What one model made of one document."""

    document: int
    content: tuple[str, str]  # hashes of document and prompt: where they differ, it is not the same sample
    metrics: dict[str, Any]  # lm-eval's metric -> this document's part of it
    log_likelihoods: tuple[float, ...]  # of each continuation, nats; empty where the task generates


Samples = dict[tuple[str, str], list[Sample]]  # by task and lm-eval's filter


class Evaluation:
    """One command line of lm-eval's own arguments, whose tasks are found; the tasks of the harness are beside lm-eval's."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Raises UserError for a task that is not there, settings that contradict each other, or an option that is not
        for here; argparse exits with status 2 for what it does not know.
        """
        parser = argparse.ArgumentParser(prog="tt-harness lm-eval")
        Run.create(parser.add_subparsers())
        options = parser.parse_args(["run", *arguments])
        for name, instead in INSTEAD.items():
            if (value := getattr(options, name)) is not None:
                raise UserError(f"lm-eval's own {name} {value}: use {instead}")
        for name in ELSEWHERE:
            if getattr(options, name, None):
                raise UserError(
                    f"--{name}: run lm-eval itself for that, with its models ttnn and ttnn-golden"
                )
        if unknown := sorted(set(options.model_args or {}) - set(MODEL_ARGS)):
            raise UserError(f"--model_args {', '.join(unknown)}: choose of {', '.join(MODEL_ARGS)}")
        _check(options)
        options.batch_size = getattr(options, "batch_size", BATCH_SIZE)
        try:
            self._config = EvaluatorConfig.from_cli(options)
            self._tasks, self._manager = self._found()
        except (ValueError, OSError) as error:
            raise UserError(f"lm-eval: {' '.join(str(error).split())}") from error

    @property
    def model_args(self) -> dict[str, Any]:
        """What the command line gives every model: --model_args and --batch_size."""
        return {**self._config.model_args, "batch_size": self._config.batch_size}

    def run(self, model: CausalLM, model_args: Mapping[str, Any], identity: str, name: str) -> Samples:
        """Evaluates a model and prints lm-eval's table.

        `model_args` made it, of weights of this `identity`; `name` is that of the folder of lm-eval's own files below
        --output_path. Raises UserError for a chat template that is asked for and not there.
        """
        config = self._config
        if config.apply_chat_template:
            model.choose_template(config.apply_chat_template)
        tracker = EvaluationTracker(
            output_path=str(Path(config.output_path) / name) if config.output_path else None
        )
        results = simple_evaluate(
            model=model,
            model_args=dict(model_args),
            tasks=self._tasks,
            task_manager=self._manager,
            evaluation_tracker=tracker,
            use_cache=self._cache(model_args, identity, name),
            log_samples=True,
            random_seed=config.seed[0],
            numpy_random_seed=config.seed[1],
            torch_random_seed=config.seed[2],
            fewshot_random_seed=config.seed[3],
            **{option: getattr(config, option) for option in _PASSED_ON},
            **config.cache_requests,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        if config.log_samples:
            for task in results["configs"]:
                tracker.save_results_samples(task_name=task, samples=[dict(row) for row in samples[task]])
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in model_args.items())}")
        print(make_table(results))
        if "groups" in results:
            print(make_table(results, "groups"))
        by_filter: Samples = {}
        for task, rows in samples.items():
            for row in rows:
                by_filter.setdefault((task, row["filter"]), []).append(_sample(row))
        return by_filter

    def _found(self) -> tuple[list[str], TaskManager]:
        """The tasks' names and who loads them. lm-eval's own thousands are only indexed when one of them is asked for."""
        config = self._config
        names = [name for argument in config.tasks for name in argument.split(",") if name]
        folders = [str(FOLDER), *([config.include_path] if config.include_path else [])]
        for defaults in (False, True):
            manager = TaskManager(include_path=folders, include_defaults=defaults, metadata=config.metadata)
            matches = {name: manager.match_tasks([name]) for name in names}
            if all(matches.values()):
                break
        missing = [name for name, match in matches.items() if not match]
        if missing or not names:
            raise UserError(
                f"tasks {', '.join(missing) or 'none'}: no such task; those of a folder need --include_path, "
                "lm-eval's own are listed by `lm-eval ls tasks`, and tt_offline needs no network"
            )
        return list(dict.fromkeys(name for match in matches.values() for name in match)), manager

    def _cache(self, model_args: Mapping[str, Any], identity: str, name: str) -> str | None:
        """lm-eval's cache of responses has no model in its keys: whatever may answer otherwise has a file of its own."""
        if not self._config.use_cache:
            return None
        answers = json.dumps([identity, name, dict(model_args)], sort_keys=True)
        return f"{self._config.use_cache}-{hashlib.sha256(answers.encode()).hexdigest()[:16]}"


_PASSED_ON = (
    "num_fewshot",
    "batch_size",
    "limit",
    "samples",
    "check_integrity",
    "write_out",
    "system_instruction",
    "apply_chat_template",
    "fewshot_as_multiturn",
    "gen_kwargs",
    "confirm_run_unsafe_code",
    "metadata",
)


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for what lm-eval would take in silence, or fail on in its midst."""
    folder, limit = getattr(options, "include_path", None), getattr(options, "limit", None)
    if folder and not Path(folder).is_dir():
        raise UserError(f"--include_path {folder}: there is no such folder")
    if limit is not None and not 0 < limit < math.inf:
        raise UserError(
            f"--limit {limit:g}: give a number of documents, 1 or more, or a fraction of them below 1"
        )
    if (getattr(options, "num_fewshot", None) or 0) < 0:
        raise UserError(f"--num_fewshot {options.num_fewshot}: give 0 or more")


def _sample(row: dict[str, Any]) -> Sample:
    answers = row["filtered_resps"]
    scored = all(isinstance(answer, (tuple, list)) and len(answer) == 2 for answer in answers)
    return Sample(
        document=row["doc_id"],
        content=(row["doc_hash"], row["prompt_hash"]),
        metrics={name: row[name] for name in row["metrics"]},
        log_likelihoods=tuple(float(answer[0]) for answer in answers) if scored else (),
    )
