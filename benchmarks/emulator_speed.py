"""How fast the emulated model is beside the fp32 PyTorch golden: ratios of times taken in one run.

    python benchmarks/emulator_speed.py [--model smollm2] [--precision accuracy,performance,bfp4_mlp] [--rounds 5]

Prefill of 1,024 tokens with logits of every position, and a decode step of 32 users at position 512. The two sides
take turns, so that a slow moment of the machine meets both; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from harness.targets import activate

PREFILL, USERS, POSITION = 1024, 32, 512


def main(
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = "smollm2",
    precision: Annotated[
        str, typer.Option(help="policies, comma-separated")
    ] = "accuracy,performance,bfp4_mlp",
    rounds: Annotated[int, typer.Option(min=1, help="interleaved rounds; the median counts")] = 5,
) -> None:
    """Print a line per policy and phase: emulated seconds, golden seconds, ratio."""
    activate("emulator")
    import tt_llm
    from tt_llm.checkpoint import locate
    from tt_llm.mesh import open_mesh

    device = open_mesh((1, 1))
    golden_prefill, golden_decode = golden(str(locate(model)))
    tokens = torch.randint(
        0, 1000, (1, PREFILL), generator=torch.Generator().manual_seed(0), dtype=torch.int32
    )
    step, positions = tokens[0, :USERS, None], torch.full((USERS,), POSITION, dtype=torch.int32)
    print(f"{torch.get_num_threads()} threads, median of {rounds} interleaved rounds")
    for name in precision.split(","):
        generator = tt_llm.load(model, device, name)
        for phase, emulated, reference in (
            ("prefill", lambda g=generator: g.prefill_forward(tokens, all_logits=True), golden_prefill),
            ("decode", lambda g=generator: g.decode_forward(step, positions), golden_decode),
        ):
            ours, theirs = paired(emulated, lambda run=reference: run(tokens.long(), step.long()), rounds)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            print(
                f"{name:12s} {phase:8s} emulator {statistics.median(ours):.3f} s, "
                f"fp32 golden {statistics.median(theirs):.3f} s, ratio {ratio:.2f}"
            )
        del generator


def golden(folder: str) -> tuple[Callable[..., object], Callable[..., object]]:
    """The Hugging Face model in fp32: its prefill forward, and a decode step over a filled static cache."""
    from transformers import AutoModelForCausalLM, StaticCache

    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cache = StaticCache(config=hf.config, max_batch_size=USERS, max_cache_len=PREFILL)

    @torch.inference_mode()
    def prefill(tokens: torch.Tensor, step: torch.Tensor) -> object:
        return hf(tokens, use_cache=False).logits

    @torch.inference_mode()
    def decode(tokens: torch.Tensor, step: torch.Tensor) -> object:
        if not cache.get_seq_length():
            hf(
                tokens[:, :POSITION].expand(USERS, -1),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        at = torch.tensor([POSITION])
        return hf(
            step, past_key_values=cache, use_cache=True, position_ids=at[None], cache_position=at
        ).logits

    return prefill, decode


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each round of the two, taking turns, after one round that is not counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    for count in range(rounds + 1):
        for run, seconds in zip((ours, theirs), taken, strict=True):
            start = time.perf_counter()
            run()
            if count:
                seconds.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    typer.run(main)
