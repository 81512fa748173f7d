"""How fast lm-eval's requests are answered: the device model on the emulator beside lm-eval's own HFLM, and shared prefixes.

    python benchmarks/lm_eval_speed.py throughput [--mode fast,device] [--questions 32] [--rounds 3]
    python benchmarks/lm_eval_speed.py sharing [--mode fast] [--questions 8] [--rounds 3]

The two sides take turns in one process; a figure is the median of the rounds' ratios, of processor time, which a busy machine
disturbs less, and of the time on the wall.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer

from harness.targets import activate

HFLM_BATCH = 8
LONG = 300  # tokens of a long context, at least

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
Model = Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")]
Modes = Annotated[str, typer.Option(help="emulator modes, comma-separated")]
Rounds = Annotated[int, typer.Option(min=1, help="interleaved rounds; the median counts")]
Pair = tuple[str, str]  # context, continuation
Timed = tuple[float, float, torch.Tensor]  # seconds of processor time and on the wall, answers


@app.command()
def throughput(
    model: Model = "smollm2", mode: Modes = "fast", questions: int = 32, rounds: Rounds = 3
) -> None:
    """Questions of tt_choice a second: the device model against HFLM in fp32 with batches of 8."""
    activate("emulator")
    from lm_eval.models.huggingface import HFLM

    from harness.emulator.arithmetic.mode import Mode, using
    from tt_llm.checkpoint import locate

    hf = HFLM(str(locate(model)), dtype="float32", device="cpu", batch_size=HFLM_BATCH, max_length=1024)
    device = _device(model)
    pairs = [pair for pairs in _choice_questions(questions) for pair in pairs]
    for each in mode.split(","):
        with using(Mode(each)):
            ours, theirs = _rounds(device, hf, pairs, rounds)
        print(
            f"{each:7s} {questions} questions: device {questions / _median(ours):.2f}/s, "
            f"HFLM {questions / _median(theirs):.2f}/s of processor time: {_ratios(theirs, ours)} times HFLM "
            f"({torch.get_num_threads()} threads, {rounds} rounds)"
        )


@app.command()
def sharing(model: Model = "smollm2", mode: Modes = "fast", questions: int = 8, rounds: Rounds = 3) -> None:
    """Which of four sentences goes on with a long text: its tokens read once, or with each sentence."""
    activate("emulator")
    from harness.emulator.arithmetic.mode import Mode, using
    from harness.evaluation.lm_eval_model import CausalLM

    device = _device(model)
    alone = CausalLM(device.model, device.tokenizer, {}, share_prefixes=False)
    pairs = _long_questions(device.tokenizer, questions)
    lengths = [len(device.tok_encode(context)) for context, _ in pairs]
    for each in mode.split(","):
        with using(Mode(each)):
            shared, whole = _rounds(device, alone, pairs, rounds)
        gap = (shared[0][2] - whole[0][2]).abs().max()
        picks = [answers.reshape(-1, 4).argmax(-1) for answers in (shared[0][2], whole[0][2])]
        print(
            f"{each:7s} {questions} contexts of {min(lengths)} to {max(lengths)} tokens, 4 choices: read once "
            f"{_median(shared):.2f} s, each time {_median(whole):.2f} s of processor time: {_ratios(whole, shared)} times as fast; "
            f"log-likelihoods differ by at most {gap:.3f}, {int((picks[0] == picks[1]).sum())} of {questions} choices "
            f"equal ({torch.get_num_threads()} threads, {rounds} rounds)"
        )


def _device(model: str) -> Any:
    from harness.emulator.arithmetic.mode import current
    from harness.evaluation.lm_eval_model import DeviceLM

    return DeviceLM(model, emulator_mode=current().value)


def _choice_questions(count: int) -> list[list[Pair]]:
    """The requests of tt_choice's first questions, as lm-eval builds them."""
    from lm_eval.tasks import TaskManager

    from harness.evaluation.tasks import FOLDER

    loaded = TaskManager(include_path=str(FOLDER), include_defaults=False).load(["tt_choice"])
    task = loaded["tasks"]["tt_choice"]
    task.build_all_requests(limit=count, rank=0, world_size=1)
    pairs = [instance.args for instance in task.instances]
    return [pairs[start : start + 4] for start in range(0, len(pairs), 4)]


def _long_questions(tokenizer: Any, count: int) -> list[Pair]:
    """Paragraphs that end after a paragraph's first sentence, with four second sentences, one of them its own."""
    from harness.evaluation.tasks.texts import paragraphs

    sentences = [paragraph.split(". ") for paragraph in paragraphs()]
    pairs = []
    for place in range(count):
        context = sentences[place % len(sentences)][0] + "."
        before = place
        while len(tokenizer.encode(context)) < LONG:
            before -= 1
            context = f"{'. '.join(sentences[before % len(sentences)])}\n\n{context}"
        choices = [sentences[(place + step) % len(sentences)][1] for step in range(4)]
        pairs += [(context, f" {choice}.") for choice in choices]
    return pairs


def _answers(lm: Any, pairs: list[Pair]) -> torch.Tensor:
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    return torch.tensor([likelihood for likelihood, _ in lm.loglikelihood(requests, disable_tqdm=True)])


def _rounds(ours: Any, theirs: Any, pairs: list[Pair], rounds: int) -> tuple[list[Timed], list[Timed]]:
    """Both sides' seconds and answers, taken in turns after a first question that is not counted."""
    for lm in (ours, theirs):
        _answers(lm, pairs[:4])
    timed = [_timed(lambda lm=lm: _answers(lm, pairs)) for _ in range(rounds) for lm in (ours, theirs)]
    return timed[::2], timed[1::2]


def _timed(run: Callable[[], torch.Tensor]) -> Timed:
    start = time.process_time(), time.perf_counter()
    answers = run()
    return time.process_time() - start[0], time.perf_counter() - start[1], answers


def _median(rounds: list[Timed]) -> float:
    return statistics.median(seconds for seconds, *_ in rounds)


def _ratios(slow: list[Timed], fast: list[Timed]) -> str:
    """The medians of the rounds' ratios: "1.50 (on the wall 1.40)"."""
    processor, wall = (
        statistics.median(a[clock] / b[clock] for a, b in zip(slow, fast, strict=True)) for clock in (0, 1)
    )
    return f"{processor:.2f} (on the wall {wall:.2f})"


if __name__ == "__main__":
    app()
