"""A task's samples of golden and device, paired: has the device lost answers, likelihood or perplexity?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from harness.errors import UserError
from harness.evaluation.samples import Sample, Samples
from harness.metrics import paired_accuracy_test, paired_nll_test
from harness.run.recorder import Details, PairedTest, Recorder, Regression

Pairs = Sequence[tuple[Sample, Sample]]  # golden, device
# lm-eval's perplexities; a text task offers several of one likelihood, of which the first is judged.
PERPLEXITIES = ("perplexity", "word_perplexity", "byte_perplexity")


def judge(recorder: Recorder, golden: Samples, device: Samples) -> None:
    """Files the records of every task and filter.

    `task_loss` for each metric that is right or wrong, `task_perplexity_error` where lm-eval takes a perplexity, and
    `task_nll_change` where continuations are scored without one. Raises UserError where the two sides did not answer the
    same prompts.
    """
    if golden.keys() != device.keys():
        raise UserError(f"golden and device answered different tasks: {sorted(golden)} and {sorted(device)}")
    for (task, filtered), samples in golden.items():
        pairs = _paired(task, samples, device[task, filtered])
        base = replace(recorder.base, test=f"lm-eval {task}", module=task, golden=f"{task}/{filtered}")
        one = replace(recorder, base=base)
        metrics = pairs[0][0].metrics
        answers = [
            metric
            for metric in metrics
            if all(_is_right_or_wrong(sample.metrics[metric]) for pair in pairs for sample in pair)
        ]
        for metric in answers:
            _judge_answers(one, pairs, metric)
        perplexity = next((name for name in PERPLEXITIES if name in metrics), None)
        if perplexity is not None:
            _judge_perplexity(one, pairs, perplexity)
        elif pairs[0][0].log_likelihoods:
            _judge_likelihoods(one, pairs)
        elif not answers:
            one.state("not_compared", f"no paired test for the task's metrics: {', '.join(metrics)}")


def _paired(task: str, golden: Sequence[Sample], device: Sequence[Sample]) -> Pairs:
    sides = [{sample.document: sample for sample in side} for side in (golden, device)]
    if sides[0].keys() != sides[1].keys():
        raise UserError(f"task {task}: golden answered {len(golden)} documents, device {len(device)} others")
    pairs = [(sample, sides[1][document]) for document, sample in sorted(sides[0].items())]
    for before, after in pairs:
        if before.content != after.content:
            raise UserError(
                f"task {task}: document {before.document} was asked differently of golden and device"
            )
    return pairs


def _is_right_or_wrong(value: object) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)


def _judge_answers(recorder: Recorder, pairs: Pairs, metric: str) -> None:
    right = [torch.tensor([bool(pair[side].metrics[metric]) for pair in pairs]) for side in (0, 1)]

    def test(alpha: float, power: float) -> Details:
        paired = paired_accuracy_test(*right, alpha=alpha, power=power)
        flips: Details = {"lost": float(paired.lost), "gained": float(paired.gained)}
        return {"p_value": paired.p_value, "detectable": paired.detectable, **flips}

    golden, device = (float(side.double().mean()) for side in right)
    details: Details = {"lm_eval_metric": metric, "golden": golden, "device": device}
    _file(recorder, "task_loss", golden - device, len(pairs), details, test)


def _judge_perplexity(recorder: Recorder, pairs: Pairs, metric: str) -> None:
    """A text's log-likelihood and its words or bytes make the text's part; their sums make lm-eval's perplexity."""
    parts = [[_likelihood_and_weight(pair[side].metrics[metric]) for pair in pairs] for side in (0, 1)]
    mean_weight = sum(weight for _, weight in parts[0]) / len(pairs)
    nll = [
        torch.tensor([-likelihood / mean_weight for likelihood, _ in side], dtype=torch.float64)
        for side in parts
    ]
    golden, device = (math.exp(float(side.mean())) for side in nll)
    ratio = math.exp(float((nll[1] - nll[0]).mean()))
    details: Details = {"lm_eval_metric": metric, "golden": golden, "device": device, "ratio": ratio}
    _file(recorder, "task_perplexity_error", abs(ratio - 1), len(pairs), details, _likelihood_test(nll))


def _likelihood_and_weight(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, 1.0)


def _judge_likelihoods(recorder: Recorder, pairs: Pairs) -> None:
    """The change of a continuation's log-likelihood, a document's continuations together."""
    differences = torch.tensor(
        [b - a for pair in pairs for a, b in zip(*(sample.log_likelihoods for sample in pair), strict=True)],
        dtype=torch.float64,
    )
    nll = [
        torch.tensor(
            [-sum(pair[side].log_likelihoods) / len(pair[side].log_likelihoods) for pair in pairs],
            dtype=torch.float64,
        )
        for side in (0, 1)
    ]
    change = float((nll[1] - nll[0]).mean())
    details: Details = {
        "golden": -float(nll[0].mean()),
        "device": -float(nll[1].mean()),
        "rms": float(differences.square().mean().sqrt()),
        "largest": float(differences.abs().max()),
    }
    _file(recorder, "task_nll_change", abs(change), len(pairs), details, _likelihood_test(nll))


def _likelihood_test(nll: Sequence[torch.Tensor]) -> PairedTest:
    """Of two tensors [documents] of negative log-likelihoods; documents are independent, so each is a run of its own."""

    def test(alpha: float, power: float) -> Details:
        if len(nll[0]) < 2:  # one document says nothing of chance
            return {"p_value": 1.0, "detectable": math.inf}
        paired = paired_nll_test(*nll, alpha=alpha, power=power, run=1)
        return {
            "p_value": paired.p_value,
            "detectable": paired.detectable,
            "ratio_low": paired.low,
            "ratio_high": paired.high,
        }

    return test


def _file(recorder: Recorder, metric: str, value: float, n: int, details: Details, test: PairedTest) -> None:
    with contextlib.suppress(Regression):  # the record says it, and all tasks are to be judged
        recorder.judge({metric: value}, n, details=details, paired={metric: test})
