"""What a trace saves in the emulator, and what being able to trace costs where nothing is traced.

    python -m benchmarks.trace_costs [OLDER_CHECKOUT]

Python's time of a decode step is the step's CPU time less that of its torch calls, which are taken down once and called
again in a bare loop. Step, replay and both loops alternate, and the medians are compared. A small model is taken, whose
arithmetic does not drown the rest; mode fast, one thread.

With an older checkout (of a commit before the emulator had traces) single ops on small tensors are timed in both, in processes
that alternate, the fastest of many rounds each: what being able to trace adds to an op that is not traced. Beside the time of a
whole SmolLM2 decode step that is too little to be seen in the step itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.targets import activate

USERS, POSITION = 32, 40
ROUNDS, STEPS = 15, 10
SESSIONS = 3  # processes a checkout
# Run under any checkout: CPU seconds of each op, the fastest of its rounds.
SINGLE_OPS = """
import json, time
from harness.targets import activate
activate("emulator", mode="fast")
import torch, ttnn
torch.set_num_threads(1)
device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
put = lambda *shape: ttnn.from_torch(
    torch.zeros(shape), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device
)
x, weight, rows = put(1, 1, 32, 64), put(64, 32), put(32, 64)
ops = {
    "unsqueeze_to_4D": lambda: ttnn.unsqueeze_to_4D(rows),
    "add": lambda: ttnn.add(x, x),
    "linear": lambda: ttnn.linear(x, weight),
    "rms_norm": lambda: ttnn.rms_norm(x),
    "to_memory_config": lambda: ttnn.to_memory_config(x, ttnn.L1_MEMORY_CONFIG),
}
times = {}
for name, op in ops.items():
    op()
    for _ in range(60):
        start = time.process_time()
        for _ in range(400):
            op()
        taken = (time.process_time() - start) / 400
        times[name] = min(taken, times.get(name, taken))
print(json.dumps(times))
"""


def main() -> None:
    _small_model()
    if len(sys.argv) > 1:
        _unused(Path(sys.argv[1]))


def _small_model() -> None:
    activate("emulator", mode="fast")
    import torch
    import ttnn

    import tt_llm
    from harness.emulator import op_names
    from harness.ttnn_calls.op_log import recorded
    from tt_llm.mesh import open_mesh, replicate

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        _save_model(Path(folder))
        device = open_mesh((1, 1))
        generator = tt_llm.load(folder, device, "performance", USERS, 128)
        by_row = device, ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        tokens = replicate(torch.zeros(1, USERS), *by_row)
        rope_positions = replicate(torch.full((1, USERS), POSITION), *by_row)
        positions, table = (
            replicate(values, device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
            for values in (torch.full((USERS,), POSITION), generator.page_table)
        )

        def step() -> ttnn.Tensor:
            return generator.model.decode(tokens, positions, rope_positions, generator.kv_cache, table)

        with recorded(ttnn, op_names()) as ops:
            step()
        trace = ttnn.begin_trace_capture(device)
        kept = step()  # lest the result be taken for an intermediate
        ttnn.end_trace_capture(device, trace)

        def replay() -> None:
            ttnn.execute_trace(device, trace, blocking=False)

        arms = {
            "step": step,
            "replay": replay,
            "step's torch": _torch_calls(step),
            "replay's torch": _torch_calls(replay),
        }
        times: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(ROUNDS):
            for name, run in arms.items():
                start = time.process_time()
                for _ in range(STEPS):
                    run()
                times[name].append((time.process_time() - start) / STEPS / len(ops) * 1e6)
        del kept
    taken = {name: statistics.median(values) for name, values in times.items()}
    python = {name: taken[name] - taken[f"{name}'s torch"] for name in ("step", "replay")}
    print(
        f"{len(ops)} ops a step, 2 layers, mode fast; CPU time, microseconds an op, medians of {ROUNDS} rounds"
    )
    for name in ("step", "replay"):
        torch_part = taken[f"{name}'s torch"]
        print(f"{name:8} {taken[name]:6.1f}, of it torch {torch_part:6.1f}, Python {python[name]:6.1f}")
    print(f"Python of a replay / of a step: {python['replay'] / python['step']:.2f}")


def _torch_calls(run: Callable[[], object]) -> Callable[[], None]:
    """The torch calls of a run, to be made again without anything between them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    class Taken(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append((function._op, args, kwargs or {}))
            return function(*args, **(kwargs or {}))

    with Taken():
        run()

    def again() -> None:
        for function, args, kwargs in calls:
            function(*args, **kwargs)

    return again


def _save_model(folder: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    sizes = {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 256}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(1024)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def _unused(older: Path) -> None:
    """What an op costs that is not traced, before there were traces and now."""
    times: dict[Path, list[dict[str, float]]] = {older: [], Path.cwd(): []}
    for _ in range(SESSIONS):
        for checkout, taken in times.items():
            process = subprocess.run(
                [sys.executable, "-c", SINGLE_OPS],
                cwd=checkout,
                env=os.environ | {"PYTHONPATH": str(checkout)},
                capture_output=True,
                text=True,
                check=True,
            )
            taken.append(json.loads(process.stdout))
    for name in times[older][0]:
        before, now = (min(session[name] for session in taken) * 1e6 for taken in times.values())
        print(
            f"not traced: {name:16} {before:5.1f} microseconds before, {now:5.1f} now ({now - before:+.1f})"
        )


if __name__ == "__main__":
    main()
