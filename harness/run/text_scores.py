"""Logits over a text become figures: what every accuracy test files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.metrics import (
    Divergence,
    kl_divergence,
    paired_accuracy_test,
    paired_nll_test,
    perplexity,
    perplexity_change,
    token_agreement,
)
from harness.run.recorder import Details, PairedTest, Recorder, Regression
from harness.run.time_shares import clocked

SHOWN = 5  # tokens of each kind
CONTEXT = 12  # tokens of text before the one shown

Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Scores:
    """The figures of one text: values by metric, what they stand on, what is shown beside each, and their paired tests."""

    values: dict[str, float]
    n: int
    details: Details
    worst: Details  # beside the KL alone: its worst tokens
    paired: dict[str, PairedTest]


@clocked("metrics")
def score(golden: torch.Tensor, device: torch.Tensor, tokens: torch.Tensor, decode: Decode) -> Scores:
    """All accuracy metrics of logits [B, S, vocab] whose row i predicts tokens[:, i + 1]; tokens is [B, S].

    `decode` turns token ids into text, for the tokens shown: those of the largest KL, and those where one side predicts the
    true token and the other does not.
    """
    agreement = token_agreement(golden, device)
    divergence = kl_divergence(golden, device, tokens)
    before, after = perplexity(golden, tokens), perplexity(device, tokens)
    change = perplexity_change(before, after)
    picks = golden.argmax(-1)[:, :-1], device.argmax(-1)[:, :-1]
    right = [pick == tokens[:, 1:] for pick in picks]
    accuracy = paired_accuracy_test(*right)
    values = {
        "top1": agreement.top1,
        "top5": agreement.top5,
        "kl": divergence.mean,
        "perplexity_error": abs(change.change),
        "top1_loss": accuracy.loss,
    }
    details: Details = {
        "stderr": divergence.stderr,
        "kl_max": divergence.max,
        **{f"kl_q{percent:g}": nats for percent, nats in divergence.quantiles.items()},
        "js": divergence.js,
        "rms_delta_p": divergence.rms_delta_p,
        "same_top_p": divergence.same_top_p,
        "worst_token": float(divergence.worst_row),
        "perplexity": after.value,
        "golden_perplexity": before.value,
        "change": change.change,
        "change_stderr": change.stderr,
        "tokens_scored": float(before.n),
    }

    flips: Details = {
        **_flips("lost", right[0] & ~right[1], picks[1], tokens, decode),
        **_flips("gained", right[1] & ~right[0], picks[0], tokens, decode),
    }
    return Scores(
        values,
        agreement.n,
        details,
        _worst(divergence, golden, device, tokens, decode),
        paired_tests(before.nll, after.nll, right[0], right[1], flips),
    )


def perplexity_test(before: torch.Tensor, after: torch.Tensor) -> PairedTest:
    """The test behind a change of perplexity, from the log-likelihoods of the same tokens, [..., S] nats each."""

    def test(alpha: float, power: float) -> Details:
        paired = paired_nll_test(before, after, alpha=alpha, power=power)
        return {
            "p_value": paired.p_value,
            "detectable": paired.detectable,
            "ratio_low": paired.low,
            "ratio_high": paired.high,
            "design_effect": paired.design_effect,
        }

    return test


def paired_tests(
    golden_nll: torch.Tensor,
    device_nll: torch.Tensor,
    golden_right: torch.Tensor,
    device_right: torch.Tensor,
    flips: Details | None = None,
) -> dict[str, PairedTest]:
    """The tests behind the two statistical metrics, from each side's log-likelihoods and right predictions.

    `flips` are shown beside the second.
    """

    def accuracy_test(alpha: float, power: float) -> Details:
        paired = paired_accuracy_test(golden_right, device_right, alpha=alpha, power=power)
        return {
            "p_value": paired.p_value,
            "detectable": paired.detectable,
            "lost": float(paired.lost),
            "gained": float(paired.gained),
            **(flips or {}),
        }

    return {"perplexity_error": perplexity_test(golden_nll, device_nll), "top1_loss": accuracy_test}


def judge(recorder: Recorder, golden: torch.Tensor, logits: torch.Tensor, scores: Scores) -> None:
    """Files the tensor metrics and the accuracy metrics, all of them, before any of them fails the test."""
    others = {metric: value for metric, value in scores.values.items() if metric != "kl"}
    kl = {"kl": scores.values["kl"]}
    failures = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: recorder.compare(logits, golden, "model"),
        lambda: recorder.judge(kl, scores.n, "model", details=scores.details | scores.worst),
        lambda: recorder.judge(others, scores.n, "model", details=scores.details, paired=scores.paired),
    )
    for check in checks:
        try:
            check()
        except Regression as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


def _worst(
    divergence: Divergence, golden: torch.Tensor, device: torch.Tensor, tokens: torch.Tensor, decode: Decode
) -> Details:
    """`worst_token_1` and on: the text before a token of large KL, and what each side then expects."""
    details: Details = {}
    kl = divergence.per_token.nan_to_num(nan=torch.inf)
    for place, row in enumerate(kl.topk(min(SHOWN, kl.numel())).indices.tolist(), start=1):
        user, at = divmod(row, tokens.shape[1])
        sides = []
        for name, logits in (("golden", golden), ("device", device)):
            p = logits[user, at].double().softmax(-1)
            likeliest = int(p.argmax())
            sides.append(f"{name} {decode([likeliest])!r} {float(p[likeliest]):.3f}")
        text = f"{_before(tokens[user], at + 1, decode)} -> {'; '.join(sides)}"
        details[f"worst_token_{place}"] = f"KL {float(kl[row]):.3g} at {user}:{at}: {text}"
    return details


def _flips(
    kind: str, flips: torch.Tensor, other: torch.Tensor, tokens: torch.Tensor, decode: Decode
) -> Details:
    """`lost_1` and on (or `gained_1`): the text before a flip, the true token, and what the other side had for it."""
    details: Details = {}
    for place, (user, at) in enumerate(flips.nonzero()[:SHOWN].tolist(), start=1):
        true, wrong = decode([int(tokens[user, at + 1])]), decode([int(other[user, at])])
        details[f"{kind}_{place}"] = f"{_before(tokens[user], at + 1, decode)} -> {true!r}, not {wrong!r}"
    return details


def _before(tokens: torch.Tensor, end: int, decode: Decode) -> str:
    return repr(decode(tokens[max(0, end - CONTEXT) : end].tolist()))
