"""lm-eval's command line, run for one model, and the samples it logs."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval._cli.run import Run
from lm_eval.config.evaluate_config import EvaluatorConfig

from harness.errors import UserError
from harness.evaluation.tasks import FOLDER

# What --model_args may hold: the rest is said by options of the harness.
MODEL_ARGS = ("max_length", "add_bos_token", "prefix_token_id", "share_prefixes")
_FILE = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.-]+\.jsonl")


@dataclass(frozen=True)
class Sample:
    """What one model made of one document."""

    document: int
    content: tuple[
        str, str
    ]  # hashes of document and prompt: equal on both sides, or they are not the same sample
    metrics: dict[str, Any]  # lm-eval's metric -> this document's part of it
    log_likelihoods: tuple[float, ...]  # of each continuation, nats; empty where the task generates


Samples = dict[tuple[str, str], list[Sample]]  # by task and lm-eval's filter


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """lm-eval's own command line, with the tasks that come with the harness beside its own.

    Raises UserError for a task that is not there or settings that contradict each other; argparse exits with status 2.
    """
    parser = argparse.ArgumentParser(prog="tt-harness lm-eval")
    Run.create(parser.add_subparsers())
    options = parser.parse_args(["run", *arguments])
    for name, instead in (("model", "--model"), ("device", "--target"), ("max_batch_size", "--batch_size")):
        if (given := getattr(options, name)) is not None:
            raise UserError(f"lm-eval's own {name} {given}: use {instead}")
    if unknown := sorted(set(options.model_args or {}) - set(MODEL_ARGS)):
        raise UserError(f"--model_args {', '.join(unknown)}: choose of {', '.join(MODEL_ARGS)}")
    options.include_path = [str(FOLDER), *([options.include_path] if options.include_path else [])]
    try:
        EvaluatorConfig.from_cli(_with(options, log_samples=True, output_path="checked")).process_tasks()
    except (ValueError, OSError) as error:
        raise UserError(f"lm-eval: {' '.join(str(error).split())}") from error
    return options


def run(
    options: argparse.Namespace,
    model: str,
    model_args: Mapping[str, Any],
    batch_size: int,
    folder: Path,
    identity: str,
) -> Samples:
    """Evaluates one registered model, lets lm-eval print its table, and returns what it logged below `folder`.

    `options` as `parse` returns them; their own --model_args and --batch_size win. `identity` is that of the weights.
    """
    before = set(folder.rglob("samples_*.jsonl"))
    ours = _with(
        options,
        model=model,
        model_args={**model_args, **(options.model_args or {})},
        batch_size=getattr(options, "batch_size", batch_size),
        log_samples=True,
        output_path=str(folder),
    )
    if options.use_cache:  # lm-eval's cache of responses has no model in its keys, so each has one of its own
        answers = json.dumps([identity, model, ours.model_args], sort_keys=True)
        ours.use_cache = f"{options.use_cache}-{hashlib.sha256(answers.encode()).hexdigest()[:16]}"
    ours.func(ours)
    files = sorted(set(folder.rglob("samples_*.jsonl")) - before)
    if not files:
        raise UserError(f"lm-eval saved no samples below {folder}")
    found: Samples = {}
    for file in files:
        named = _FILE.fullmatch(file.name)
        if named is None:
            raise UserError(f"{file}: not a samples file of the lm-eval this was written for")
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.setdefault((named["task"], row["filter"]), []).append(_sample(row))
    return found


def _with(options: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    changed = copy.deepcopy(options)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _sample(row: dict[str, Any]) -> Sample:
    """lm-eval writes responses as text: ["-1.5", "False"] for a scored continuation."""
    answers = row["filtered_resps"]
    scored = all(isinstance(answer, list) and len(answer) == 2 for answer in answers)
    return Sample(
        document=row["doc_id"],
        content=(row["doc_hash"], row["prompt_hash"]),
        metrics={name: row[name] for name in row["metrics"]},
        log_likelihoods=tuple(float(answer[0]) for answer in answers) if scored else (),
    )
