"""How fast the emulator is beside plain fp32 PyTorch: ratios of times taken in one run, and the memory it takes.

    python benchmarks/emulator_speed.py model [--precision accuracy,performance,bfp4_mlp] [--mode fast,device] [--rounds 5]
    python benchmarks/emulator_speed.py ops [--mode fast,device,exact] [--rounds 7]
    python benchmarks/emulator_speed.py memory [--precision accuracy] [--mode device]

`--cpu avx2` before the command takes this CPU for a lesser one (harness/emulator/kernels/cpu.py).
The two sides take turns, so that a slow moment of the machine meets both; a figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from safetensors import safe_open

from harness.emulator import cpu_path
from harness.emulator.kernels import cpu
from harness.results.schema import cpu_model
from harness.targets import activate

PREFILL, USERS, POSITION = 1024, 32, 512
# ttsim 1.10.0, the instruction simulator, on a machine like the one this was written on: seconds of a 32 x 2048 x 2048
# matmul (numerics ground truth, facts of the ttsim target).
SIMULATOR = {"LoFi": 0.49, "HiFi4": 1.57}

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
Rounds = Annotated[int, typer.Option(min=1, help="interleaved rounds; the median counts")]
Modes = Annotated[str, typer.Option(help="emulator modes, comma-separated")]


@app.callback()
def pretend(
    name: Annotated[str | None, typer.Option("--cpu", help="a lesser CPU than this one")] = None,
) -> None:
    """Puts the CPU in force before torch computes, and says which it is."""
    if name:
        os.environ[cpu.VARIABLE] = name
    try:
        print(f"{cpu_model()}: {cpu_path()}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def model(
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = "smollm2",
    precision: Annotated[
        str, typer.Option(help="policies, comma-separated")
    ] = "accuracy,performance,bfp4_mlp",
    mode: Modes = "fast,device",
    rounds: Rounds = 5,
) -> None:
    """Prefill of 1,024 tokens with logits of every position, and a decode step of 32 users at position 512."""
    activate("emulator", mode=mode.split(",")[0])
    import tt_llm
    from harness.emulator.arithmetic.mode import Mode, using
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
        for each in mode.split(","):
            with using(Mode(each)):
                generator = tt_llm.load(model, device, name)
                for phase, emulated, reference in (
                    (
                        "prefill",
                        lambda g=generator: g.prefill_forward(tokens, all_logits=True),
                        golden_prefill,
                    ),
                    ("decode", lambda g=generator: g.decode_forward(step, positions), golden_decode),
                ):
                    ours, theirs = paired(
                        emulated, lambda run=reference: run(tokens.long(), step.long()), rounds
                    )
                    _show(f"{name:12s} {phase:8s} {each:7s}", ours, theirs, "fp32 golden")
                del generator


@app.command()
def ops(mode: Modes = "fast,device,exact", rounds: Rounds = 7) -> None:
    """SmolLM2's ops at prefill of 1,024 tokens and at a decode step of 32 users, one by one, and the simulator's matmul."""
    activate("emulator")
    from harness.emulator.arithmetic.mode import Mode, using

    print(f"{torch.get_num_threads()} threads, median of {rounds} interleaved rounds")
    for each in mode.split(","):
        for name, emulated, plain in _cases(each):
            with using(Mode(each)):
                _show(f"{name:44s} {each:7s}", *paired(emulated, plain, rounds), "fp32 torch")
        for fidelity, seconds in SIMULATOR.items():
            with using(Mode(each)):
                run, _ = _linear(32, 2048, 2048, fidelity, fp32_dest=False, weights="bfloat16")
                taken = statistics.median(paired(run, lambda: None, rounds)[0])
            print(
                f"{f'linear 32x2048x2048 {fidelity}':44s} {each:7s} {taken:.4f} s, "
                f"instruction simulator {seconds} s (recorded), {seconds / taken:.0f}x faster"
            )


@app.command()
def memory(
    model: Annotated[str, typer.Option(help="smollm2, a folder, or a Hugging Face id")] = "smollm2",
    precision: Annotated[str, typer.Option(help="one policy")] = "accuracy",
    mode: Annotated[str, typer.Option(help="one emulator mode")] = "device",
) -> None:
    """Peak memory of loading the model, a prefill of 1,024 tokens and a decode step, beside bf16 weights and the KV cache."""
    activate("emulator", mode=mode)
    import tt_llm
    from tt_llm.checkpoint import locate, weight_files
    from tt_llm.mesh import open_mesh

    imported = _peak()
    generator = tt_llm.load(model, open_mesh((1, 1)), precision)
    loaded = _peak()
    generator.prefill_forward(torch.zeros(1, PREFILL, dtype=torch.int32), all_logits=True)
    positions = torch.full((USERS,), POSITION, dtype=torch.int32)
    generator.decode_forward(torch.zeros(USERS, 1, dtype=torch.int32), positions)
    weights = 0.0
    for file in weight_files(locate(model)):
        with safe_open(file, "pt") as tensors:
            weights += sum(
                math.prod(tensors.get_slice(name).get_shape()) * 2 / 1e6 for name in tensors.offset_keys()
            )
    pairs = generator.kv_cache.layers
    cache = sum(math.prod(tensor.shape) * 2 / 1e6 for pair in pairs for tensor in pair)
    peak = _peak()
    print(
        f"{precision} {mode}: {imported:.0f} MB after imports, {loaded:.0f} MB loaded, {peak:.0f} MB at the peak; "
        f"weights {weights:.0f} MB and KV cache {cache:.0f} MB in bf16: "
        f"(peak - imports - cache) / weights = {(peak - imported - cache) / weights:.2f}"
    )


def _peak() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def _cases(mode: str) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Name, the emulated op, and the same in fp32 torch. `exact` is for single ops: it gets the decode shapes alone."""
    import ttnn

    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    cases = []
    silu = [ttnn.UnaryOpType.SILU]
    shapes = (32,) if mode == "exact" else (1024, 32)
    for rows in shapes:
        for k, n in ((576, 960), (576, 1536), (1536, 576)):
            for fidelity, fp32_dest, weights in (
                ("LoFi", False, "bfloat4_b"),
                ("HiFi2", False, "bfloat8_b"),
                ("HiFi4", True, "bfloat16"),
            ):
                run, plain = _linear(rows, k, n, fidelity, fp32_dest=fp32_dest, weights=weights)
                cases.append((f"linear {rows}x{k}x{n} {fidelity} {weights}", run, plain))
        x, y = torch.randn(1, 1, rows, 576), torch.randn(1, 1, rows, 576)
        a, b = (
            ttnn.from_torch(t, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device) for t in (x, y)
        )
        cases.append((f"add {rows}x576", lambda a=a, b=b: ttnn.add(a, b), lambda x=x, y=y: x + y))
        weight = torch.randn(576)
        w = ttnn.from_torch(weight.view(1, 1, 18, 32), dtype=ttnn.bfloat16, device=device)
        cases.append(
            (
                f"rms_norm {rows}x576",
                lambda a=a, w=w: ttnn.rms_norm(a, weight=w, epsilon=1e-5),
                lambda x=x, weight=weight: F.rms_norm(x, (576,), weight, 1e-5),
            )
        )
        g, u = torch.randn(1, 1, rows, 1536), torch.randn(1, 1, rows, 1536)
        gate, up = (
            ttnn.from_torch(t, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device) for t in (g, u)
        )
        cases.append(
            (
                f"silu(gate) * up {rows}x1536",
                lambda gate=gate, up=up: ttnn.mul(gate, up, input_tensor_a_activations=silu),
                lambda g=g, u=u: F.silu(g) * u,
            )
        )
    if mode != "exact":
        q, k, v = torch.randn(1, 9, 1024, 64), torch.randn(1, 3, 1024, 64), torch.randn(1, 3, 1024, 64)
        tq, tk, tv = (
            ttnn.from_torch(t, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device) for t in (q, k, v)
        )
        cases.append(
            (
                "causal attention 9 heads x 1024 x 64",
                lambda: ttnn.transformer.scaled_dot_product_attention(tq, tk, tv, is_causal=True),
                lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
            )
        )
    return cases


def _linear(
    rows: int, k: int, n: int, fidelity: str, *, fp32_dest: bool, weights: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    import ttnn

    device: Any = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(1, 1, rows, k, generator=generator), torch.randn(1, 1, k, n, generator=generator)
    a = ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    b = ttnn.from_torch(w, dtype=getattr(ttnn, weights), layout=ttnn.TILE_LAYOUT, device=device)
    config = ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity), fp32_dest_acc_en=fp32_dest, packer_l1_acc=True
    )
    transposed = w[0, 0].T.contiguous()
    return lambda: ttnn.linear(a, b, compute_kernel_config=config), lambda: F.linear(x, transposed)


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
            prompts = tokens[:, :POSITION].expand(USERS, -1)
            hf(prompts, past_key_values=cache, use_cache=True, logits_to_keep=1)
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


def _show(what: str, ours: list[float], theirs: list[float], beside: str) -> None:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"{what} emulator {statistics.median(ours):.4f} s, {beside} {statistics.median(theirs):.4f} s, ratio {ratio:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    app()
