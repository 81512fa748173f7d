"""What the paired verdict says of planted differences between golden and device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.errors import UserError
from harness.evaluation.samples import Sample, Samples
from harness.evaluation.verdict import judge
from harness.gates.policy import Policy
from harness.results.schema import Record
from harness.run.recorder import Recorder

N = 1000
Change = Callable[[Sample], Sample]


def samples(**metrics: object) -> list[Sample]:
    """Documents with these metrics; a callable is asked for each document's."""
    return [
        Sample(
            document=i,
            content=(f"document {i}", f"prompt {i}"),
            metrics={name: value(i) if callable(value) else value for name, value in metrics.items()},
            log_likelihoods=(-1.0 - i % 7, -2.0, -3.0),
        )
        for i in range(N)
    ]


def judged(golden: list[Sample], change: Change, n: int = N) -> dict[str, Record]:
    """The records of one task, by metric."""
    base = Record(
        test="lm-eval",
        module="none",
        metric="none",
        value=None,
        verdict="not_compared",
        target="emulator",
        precision="accuracy",
    )
    filed: list[Record] = []
    sides: list[Samples] = [{("quiz", "none"): side[:n]} for side in (golden, [change(s) for s in golden])]
    judge(Recorder(base, Policy.load(), filed.append), *sides)
    assert all(record.test == "lm-eval quiz" for record in filed)
    return {record.metric: record for record in filed}


def wrong_below(count: int) -> Change:
    """The device is wrong on the first documents."""
    return lambda s: replace(s, metrics={"acc": 0.0}) if s.document < count else s


def less_likely(nats: float) -> Change:
    """Every continuation, by about that much."""
    return lambda s: replace(
        s,
        log_likelihoods=tuple(x - nats * (1 + s.document % 3) / 2 for x in s.log_likelihoods),
    )


def test_equal_answers_pass() -> None:
    records = judged(samples(acc=lambda i: float(i % 2)), lambda sample: sample)
    assert set(records) == {"task_loss", "task_nll_change"}
    assert all(record.verdict == "pass" and record.value == 0 for record in records.values())
    assert records["task_loss"].details["golden"] == records["task_loss"].details["device"] == 0.5


def test_lost_answers_are_a_regression() -> None:
    record = judged(samples(acc=1.0), wrong_below(100))["task_loss"]
    assert record.verdict == "regression"
    assert record.value == pytest.approx(100 / N)
    assert (record.details["lost"], record.details["gained"], record.n) == (100.0, 0.0, N)
    assert record.module == "quiz"


def test_few_samples_cannot_tell() -> None:
    assert judged(samples(acc=1.0), wrong_below(1), n=20)["task_loss"].verdict == "inconclusive"
    assert judged(samples(acc=1.0), wrong_below(0), n=1)["task_nll_change"].verdict == "inconclusive"


def test_lost_likelihood_is_a_regression_though_every_answer_is_right() -> None:
    records = judged(samples(acc=1.0), less_likely(0.5))
    assert records["task_loss"].verdict == "pass"
    assert records["task_nll_change"].verdict == "regression"
    assert records["task_nll_change"].details["largest"] == pytest.approx(0.75)


def test_perplexity_of_continuations() -> None:
    golden = samples(perplexity=lambda i: -1.0 - i % 5, acc=1)
    records = judged(
        golden, lambda s: replace(s, metrics={**s.metrics, "perplexity": s.metrics["perplexity"] - 0.2})
    )
    assert set(records) == {"task_loss", "task_perplexity_error"}  # one likelihood, one verdict
    record = records["task_perplexity_error"]
    assert record.verdict == "regression"
    assert record.details["ratio"] == pytest.approx(2.718281828**0.2)


def test_perplexity_of_texts_is_lm_evals() -> None:
    golden = samples(
        word_perplexity=lambda i: (-30.0 - i, 10 + i % 3), byte_perplexity=lambda i: (-30.0 - i, 50)
    )
    golden = [replace(sample, log_likelihoods=()) for sample in golden]
    ((metric, record),) = judged(golden, lambda sample: sample).items()
    assert metric == "task_perplexity_error"
    assert record.details["lm_eval_metric"] == "word_perplexity"
    total, words = sum(-30.0 - i for i in range(N)), sum(10 + i % 3 for i in range(N))
    assert record.details["golden"] == pytest.approx(2.718281828459045 ** (-total / words))
    assert (record.verdict, record.value) == ("pass", 0)


def test_a_task_that_cannot_be_judged_says_so() -> None:
    golden = [replace(s, log_likelihoods=()) for s in samples(rouge=lambda i: i / N)]
    ((metric, record),) = judged(golden, lambda sample: sample).items()
    assert (metric, record.verdict) == ("none", "not_compared")
    assert "rouge" in record.note


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, content=("other", s.content[1])),
        lambda s: replace(s, document=s.document + 1),
    ],
)
def test_what_is_not_the_same_sample_is_refused(change: Change) -> None:
    with pytest.raises(UserError, match="task quiz"):
        judged(samples(acc=1.0), change)
