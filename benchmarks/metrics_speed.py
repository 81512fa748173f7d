"""How fast `compare_tensors` is beside numpy's correlation of the same tensors, and the memory it takes beyond them.

    python benchmarks/metrics_speed.py [--elements 67108864] [--rounds 5]

The other side is what PCC checks of TT-NN tests do: both tensors to float64, flattened with NaN and Inf masked, then
numpy.corrcoef (numpy.ma.corrcoef, which honours the mask, is shown too). They take turns in one process: on one thread, by CPU
time, so that other processes do not count; then on as many threads as there are, on the wall, as a test waits for it. Ours
finds twenty figures in that time, numpy one.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer

from harness.metrics import compare_tensors

WIDTH = 4096


def main(
    elements: Annotated[int, typer.Option(min=WIDTH, help="of each tensor, a multiple of 4096")] = 2**26,
    rounds: Annotated[int, typer.Option(min=1, help="interleaved rounds; the median counts")] = 5,
) -> None:
    """Prints the ratios of CPU times and the growth of the process's peak memory."""
    everything = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    # In place: the peak is ours alone
    golden = torch.empty(elements // WIDTH, WIDTH).normal_(generator=generator)
    actual = torch.empty_like(golden).normal_(generator=generator).mul_(0.01).add_(golden)
    compare_tensors(actual[:256], golden[:256])
    before = peak()
    ours = compare_tensors(actual, golden).pcc
    print(f"{elements:,} float32 elements; memory beyond them: {(peak() - before) / 2**20:.0f} MiB")

    sides: dict[str, Callable[[], float]] = {
        "compare_tensors": lambda: compare_tensors(actual, golden).pcc,
        "numpy.corrcoef": lambda: float(np.corrcoef(masked(actual), masked(golden))[0, 1]),
        "numpy.ma.corrcoef": lambda: float(np.ma.corrcoef(masked(actual), masked(golden))[0, 1]),
    }
    for threads, clock, what in (
        (1, time.process_time, "of CPU"),
        (everything, time.perf_counter, "on the wall"),
    ):
        torch.set_num_threads(threads)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                start = clock()
                figures = side()
                times[name].append(clock() - start)
                assert abs(figures - ours) < 1e-9, (name, figures, ours)
        print(f"torch threads: {threads}")
        for name, taken in times.items():
            ratio = statistics.median(t / o for t, o in zip(taken, times["compare_tensors"], strict=True))
            print(f"{name:18s} {statistics.median(taken):6.2f} s {what}, {ratio:5.1f} times ours")


def masked(tensor: torch.Tensor) -> np.ma.MaskedArray:
    """Float64, flat, NaN and Inf masked."""
    return np.ma.masked_invalid(tensor.double().numpy()).flatten()


def peak() -> int:
    """The process's largest resident size so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    typer.run(main)
