"""What target shadow costs over the emulator: `python benchmarks/shadow_costs.py [MODEL]` (default: smollm2).

Decode steps of 1 user in mode device, untraced and traced, each target in processes of its own, in turn. What shadow takes longer,
divided by the ops of a step, is the cost of an op outside its values. Takes about three minutes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS, STEPS = 2, 12
RUN = """
import json, sys, time
from harness.targets import activate
target, model = sys.argv[1:]
activate(target, mode="device")
import torch, ttnn, tt_llm
from harness.emulator import op_names
from harness.ttnn_calls.op_log import recorded
device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1), trace_region_size=1 << 27)
generator = tt_llm.load(model, device, precision="performance", max_batch_size=1, max_seq_len=256)
tokens = torch.randint(0, 256, (1, 32), generator=torch.Generator().manual_seed(0))
generator.prefill_forward(tokens)
at = 32
def step(traced):
    global at
    generator.decode_forward(tokens[:, :1], torch.tensor([at]), enable_trace=traced)
    at += 1
found = {}
for traced in (False, True):
    for _ in range(3):
        step(traced)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step(traced)
        times.append(time.perf_counter() - start)
    found["traced" if traced else "untraced"] = times
with recorded(ttnn, op_names()) as log:
    step(False)
found["ops"] = len(log)
print(json.dumps(found))
""".replace("STEPS", str(STEPS))


def main(model: str) -> None:
    times: dict[tuple[str, str], list[float]] = {}
    ops = 0
    for _ in range(ROUNDS):
        for target in ("emulator", "shadow"):
            process = subprocess.run(
                [sys.executable, "-c", RUN, target, model], capture_output=True, text=True, check=True
            )
            figures = json.loads(process.stdout.splitlines()[-1])
            ops = figures.pop("ops")
            for how, some in figures.items():
                times.setdefault((target, how), []).extend(some)
    for how in ("untraced", "traced"):
        emulator, shadow = (statistics.median(times[target, how]) for target in ("emulator", "shadow"))
        line = f"{how}: emulator {emulator * 1e3:.1f} ms, shadow {shadow * 1e3:.1f} ms, {shadow / emulator - 1:+.1%}"
        per_op = f", {(shadow - emulator) / ops * 1e6:.0f} us an op of {ops}" if how == "untraced" else ""
        print(line + per_op)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2")
