"""What target shadow costs over the emulator: `python benchmarks/shadow_costs.py [MODEL]` (default: smollm2).

Decode steps of 1 user in mode device, untraced and traced. A process a target; they take turns, step by step, so that both see the
same load of the machine. What shadow takes longer, less what ttnn itself takes, divided by the ops of a step, is the cost of an op
outside ttnn and values. Takes about two minutes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

ROUNDS = 16
RUN = """
import json, sys, time
from harness.targets import activate
target, model = sys.argv[1:]
activate(target, mode="device")
import torch, ttnn, tt_llm
device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 27)
generator = tt_llm.load(model, device, precision="performance", max_batch_size=1, max_seq_len=256)
tokens = torch.randint(0, 256, (1, 32), generator=torch.Generator().manual_seed(0))
generator.prefill_forward(tokens)
at = 32
print("ready", flush=True)
for line in sys.stdin:
    if target == "shadow":
        from harness.targets.shadow import take_coverage
        take_coverage()
    start = time.perf_counter()
    generator.decode_forward(tokens[:, :1], torch.tensor([at]), enable_trace=line.strip() == "traced")
    found = {"seconds": time.perf_counter() - start}
    at += 1
    if target == "shadow":
        counts = take_coverage().counts.values()
        found |= {"ttnn": sum(one.in_ttnn for one in counts), "ops": sum(one.calls for one in counts)}
    print(json.dumps(found), flush=True)
"""


class Runner:
    """A process with the model loaded on a target, which takes a step when it is told to."""

    def __init__(self, target: str, model: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN, target, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines(lambda line: line == "ready\n")

    def step(self, how: str) -> dict[str, Any]:
        """The seconds of one step."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{how}\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._lines(lambda line: line.startswith("{")))
        return found

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _lines(self, wanted: Any) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if wanted(line):
                return line
        raise SystemExit("a process ended early")


def main(model: str) -> None:
    runners = {target: Runner(target, model) for target in ("emulator", "shadow")}
    for how in ("untraced", "traced"):
        steps: dict[str, list[dict[str, Any]]] = {target: [] for target in runners}
        for number in range(ROUNDS + 3):
            for target, runner in runners.items():
                found = runner.step(how)
                if number >= 3:
                    steps[target].append(found)
        emulator, shadow = (statistics.median(one["seconds"] for one in some) for some in steps.values())
        ratio = statistics.median(
            late["seconds"] / first["seconds"]
            for first, late in zip(steps["emulator"], steps["shadow"], strict=True)
        )
        line = f"{how}: emulator {emulator * 1e3:.0f} ms, shadow {shadow * 1e3:.0f} ms, median of ratios {ratio - 1:+.1%}"
        ops = steps["shadow"][0]["ops"]
        if how == "untraced" and ops:
            ttnn = statistics.median(one["ttnn"] for one in steps["shadow"])
            ours = (ratio - 1) * emulator - ttnn
            line += f"; an op of {ops}: ttnn {ttnn / ops * 1e6:.0f} us, shadow {ours / ops * 1e6:.0f} us"
        print(line, flush=True)
    for runner in runners.values():
        runner.end()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2")
