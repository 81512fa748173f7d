"""What each numeric choice costs, measured on SmolLM2: LoFi, bfp8 and bfp4 weights, a bf16 destination, approximate exp.

    python benchmarks/numerics_costs.py model [--windows 4] [--mode device]
    python benchmarks/numerics_costs.py layers [--mode exact]
    python benchmarks/numerics_costs.py long-k [--mode exact]
    python benchmarks/numerics_costs.py one-ulp [--mode exact]
    python benchmarks/numerics_costs.py modes fast/results.json device/results.json exact/results.json

`model` changes one choice at a time in the policy `accuracy` and runs real text; the golden is fp32. `layers` runs every
layer's linears alone on the golden's activations. `long-k` is one matmul of random numbers, signed and all positive. `one-ulp`
changes one element of the first token's embedding by one bf16 ulp, and compares the whole model with and without. `modes`
puts runs of `tt-harness run --suite numerics`, one a mode, beside the simulated Wormhole that was recorded.
Figures of a mean carry its standard error.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from harness.targets import activate

WINDOW = 512  # tokens
app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
Mode = Annotated[str, typer.Option(help="emulator mode: fast, device, exact")]


@app.command()
def model(
    mode: Mode = "device",
    windows: Annotated[int, typer.Option(min=2, help=f"of {WINDOW} tokens")] = 4,
    only: Annotated[str, typer.Option(help="variants, comma-separated; all without")] = "",
) -> None:
    """Logits PCC, mean KL, perplexity and top-1 of each variant, prefilled, every position scored."""
    activate("emulator", mode=mode)
    from goldens import Reference, load_text
    from goldens import windows as cut
    from harness.metrics import kl_divergence, pcc, perplexity, perplexity_change, token_agreement
    from tt_llm.checkpoint import locate
    from tt_llm.mesh import open_mesh

    reference = Reference(locate("smollm2"))
    tokens = cut(load_text(None), reference.tokenizer, WINDOW, windows)
    golden = torch.cat([reference.run(row[None], {"logits"})["logits"] for row in tokens])
    before = perplexity(golden, tokens)
    n = tokens.numel()
    print(f"mode {mode}, {n} tokens of CPython's language reference; golden perplexity {before.value:.3f}")
    print("| variant | 1-PCC of the logits | mean KL, nats | perplexity | top-1 |")
    print("|---|---|---|---|---|")
    device = open_mesh((1, 1))
    names = only.split(",") if only else list(VARIANTS)
    for name in names:
        with VARIANTS[name](device) as generator:
            logits = torch.cat(
                [generator.prefill_forward(row[None].int(), all_logits=True) for row in tokens]
            )
        kl, change = kl_divergence(golden, logits), perplexity_change(before, perplexity(logits, tokens))
        gaps = [1 - pcc(ours, expected) for ours, expected in zip(logits, golden, strict=True)]
        top1 = token_agreement(golden, logits).top1
        print(
            f"| {name} | {mean_of(gaps, '{:.1e}')} | {kl.mean:.5f} ± {kl.stderr:.5f} "
            f"| {100 * change.change:+.2f}% ± {100 * change.stderr:.2f}% | {100 * top1:.1f}% |",
            flush=True,
        )


@app.command()
def layers(mode: Mode = "exact") -> None:
    """1-PCC and gain of the linears of all layers, each alone on the golden's activations: mean ± standard error of 30."""
    activate("emulator", mode=mode)
    import ttnn

    from harness.conformance.numerics.agreement import error
    from harness.conformance.numerics.inputs import Weights
    from harness.conformance.numerics.recordings import arrays
    from tt_llm.checkpoint import locate

    folder = locate("smollm2")
    weights = Weights(folder)
    activations = golden_activations(folder, arrays("whole_golden")["ids"].long())
    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    print(
        f"mode {mode}, SmolLM2's {len(activations)} layers, 32 tokens, fp32 weights and activations as the exact side"
    )
    print("| weights, fidelity, destination | qkv: 1-PCC | gain - 1 | down: 1-PCC | gain - 1 |")
    print("|---|---|---|---|---|")
    for dtype, fidelity, fp32 in LINEARS:
        cells = []
        for point in ("qkv", "down"):
            errors = []
            for index, rows in enumerate(activations):
                w = weights.layer(index)[point]
                a, b = (put_tile(x, kind, device) for x, kind in ((rows[point], "bfloat16"), (w, dtype)))
                out = ttnn.linear(a, b, dtype=ttnn.bfloat16, compute_kernel_config=compute(fidelity, fp32))
                errors.append(error(ttnn.to_torch(out).float(), rows[point].double() @ w.double()))
            cells.append(mean_of([one.gap for one in errors], "{:.2e}"))
            cells.append(mean_of([one.gain - 1 for one in errors], "{:+.4f}"))
        destination = "fp32" if fp32 else "bf16"
        print(f"| {dtype}, {fidelity}, {destination} | {' | '.join(cells)} |", flush=True)


@app.command("long-k")
def long_k(mode: Mode = "exact", repeats: Annotated[int, typer.Option(min=2)] = 4) -> None:
    """[32, K] x [K, 64] of bf16 numbers in one K block: 1-PCC and bias by K, for signed and for positive numbers."""
    activate("emulator", mode=mode)
    import ttnn

    device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    print(f"mode {mode}, N(0, 1) or |N(0, 1)|, bf16 x bf16 at HiFi4, mean ± standard error of {repeats}")
    print("| K | data | destination | 1-PCC | gain - 1 |")
    print("|---|---|---|---|---|")
    for k in (256, 1024, 4096):
        for data, sign in (("signed", torch.clone), ("positive", torch.abs)):
            for fp32 in (False, True):
                errors = [random_product(device, k, sign, fp32, seed) for seed in range(repeats)]
                gap = mean_of([one.gap for one in errors], "{:.1e}")
                gain = mean_of([one.gain - 1 for one in errors], "{:+.4f}")
                print(f"| {k} | {data} | {'fp32' if fp32 else 'bf16'} | {gap} | {gain} |", flush=True)


@app.command("one-ulp")
def one_ulp(mode: Mode = "exact", repeats: Annotated[int, typer.Option(min=2)] = 8) -> None:
    """KL between two runs of the whole model that differ in one bf16 ulp of one input: mean ± standard error of `repeats`."""
    activate("emulator", mode=mode)
    import ttnn

    from harness.conformance.numerics.inputs import Weights
    from harness.conformance.numerics.model import Calls, Model
    from harness.conformance.numerics.recordings import Recording, arrays
    from harness.metrics import kl_divergence, pcc
    from tt_llm.checkpoint import locate

    weights, ids = Weights(locate("smollm2")), arrays("whole_golden")["ids"]
    embedding, device = weights.embedding, ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    print(f"mode {mode}, 32 tokens, mean ± standard error of {repeats} elements of the first token")
    print("| recording | KL, nats | 1-PCC of the logits |")
    print("|---|---|---|")
    for name in ("whole_A", "whole_P8", "whole_P"):
        calls = Calls(Recording(name).steps)
        network = Model(device, weights, calls)
        before = network.prefill(calls, ids).logits
        divergences, gaps = [], []
        for seed in range(repeats):
            weights.embedding = functools.partial(nudged, embedding, seed)
            after = network.prefill(calls, ids).logits
            divergences.append(kl_divergence(before, after).mean)
            gaps.append(1 - pcc(after, before))
        weights.embedding = embedding
        print(f"| {name} | {mean_of(divergences, '{:.5f}')} | {mean_of(gaps, '{:.1e}')} |", flush=True)


def nudged(embedding: Callable[[torch.Tensor], torch.Tensor], seed: int, ids: torch.Tensor) -> torch.Tensor:
    """The embedding with one element of the first token one bf16 ulp farther from zero."""
    rows = embedding(ids).bfloat16().float()
    column = int(torch.randint(rows.shape[-1], (1,), generator=torch.Generator().manual_seed(seed)))
    rows.view(torch.int32)[0, 0, 0, column] += 0x10000
    return rows


@app.command()
def modes(results: list[Path]) -> None:
    """The whole model's figures in each run's mode, and the recorded ones."""
    from harness.results.schema import read_results

    runs = [read_results(path) for path in results]
    names = [run.environment.emulator_mode or run.environment.target for run in runs]
    figures: dict[tuple[str, str], list[float | str]] = {}
    for index, run in enumerate(runs):
        for record in run.records:
            if "test_whole.py::test_prefill" in record.test and "what" in record.details:
                if "group" in record.details and not str(record.details["what"]).endswith(LAYERS_SHOWN):
                    continue
                key = record.precision, str(record.details["what"])
                row = figures.setdefault(key, ["-"] * len(runs) + [record.details["recorded"]])
                row[index] = record.details["ours"]
    print(f"| policy | figure | {' | '.join(names)} | simulator |")
    print("|---|---|" + "---|" * (len(names) + 1))
    for (precision, what), row in figures.items():
        print(f"| {precision} | {what} | {' | '.join(f'{cell:.3g}' for cell in row)} |")


def random_product(
    device: Any, k: int, sign: Callable[[torch.Tensor], torch.Tensor], fp32: bool, seed: int
) -> Any:
    """The error of one product of random matrices, written in the destination's own format."""
    import ttnn

    from harness.conformance.numerics.agreement import error

    generator = torch.Generator().manual_seed(seed)
    shapes = (32, k), (k, 64)
    a, b = (sign(torch.randn(shape, generator=generator)).bfloat16().float() for shape in shapes)
    out = ttnn.matmul(
        put_tile(a, "bfloat16", device),
        put_tile(b, "bfloat16", device),
        dtype=ttnn.float32 if fp32 else ttnn.bfloat16,
        program_config=one_block(k),
        compute_kernel_config=compute("HiFi4", fp32),
    )
    return error(ttnn.to_torch(out).float(), a.double() @ b.double())


LAYERS_SHOWN = ("layer 0", "layer 9", "layer 29")
# Weights, fidelity, fp32 destination
LINEARS = [
    ("bfloat16", "HiFi4", True),
    ("bfloat16", "HiFi2", True),
    ("bfloat16", "LoFi", True),
    ("bfloat16", "HiFi4", False),
    ("bfloat16", "LoFi", False),
    ("bfloat8_b", "HiFi4", True),
    ("bfloat8_b", "HiFi2", False),
    ("bfloat8_b", "LoFi", False),
    ("bfloat4_b", "LoFi", True),
    ("bfloat4_b", "LoFi", False),
]


def variant(**changes: Any) -> Callable[[Any], Any]:
    """A generator under the policy `accuracy` with fields changed, as a context that frees it."""
    from contextlib import contextmanager

    @contextmanager
    def loaded(device: Any) -> Iterator[Any]:
        import tt_llm
        from tt_llm import op_configs, precision

        values = {name: value() if callable(value) else value for name, value in changes.items()}
        approximate = values.pop("approximate_exp", False)
        base = precision.named("accuracy")
        precision.PRECISIONS["measured"] = replace(base, name="measured", **values)
        configured = op_configs.OpConfigs._sdpa
        if approximate:
            op_configs.OpConfigs._sdpa = lambda self, q_chunk, k_chunk: replace(
                configured(self, q_chunk, k_chunk), exp_approx_mode=True
            )
        try:
            yield tt_llm.load("smollm2", device, "measured", max_batch_size=1, max_seq_len=WINDOW)
        finally:
            op_configs.OpConfigs._sdpa = configured
            del precision.PRECISIONS["measured"]

    return loaded


def linears(fidelity: str, fp32: bool) -> dict[str, Callable[[], Any]]:
    """All linears at a fidelity and destination."""

    def made() -> Any:
        import ttnn

        from tt_llm.precision import Compute

        return Compute(getattr(ttnn.MathFidelity, fidelity), fp32_dest=fp32)

    return {"linear": made, "gate_up": made}


def stored(dtype: str, *fields: str) -> dict[str, Callable[[], Any]]:
    """Weights or activations, by the policy's field names, in a dtype."""

    def made() -> Any:
        import ttnn

        return getattr(ttnn, dtype)

    return dict.fromkeys(fields, made)


WEIGHTS = ("attention_weights", "gate_up_weights", "down_weights", "lm_head_weights")
VARIANTS: dict[str, Callable[[Any], Any]] = {
    "accuracy": variant(),  # bf16 weights, HiFi4, fp32 destination, fp32 residual
    "linears at HiFi2": variant(**linears("HiFi2", True)),
    "linears at LoFi": variant(**linears("LoFi", True)),
    "linears with a bf16 destination": variant(**linears("HiFi4", False)),
    "linears at LoFi with a bf16 destination": variant(**linears("LoFi", False)),
    "bf16 residual stream": variant(**stored("bfloat16", "residual")),
    "bfp8 weights": variant(**stored("bfloat8_b", *WEIGHTS)),
    "bfp4 weights in gate and up": variant(**stored("bfloat4_b", "gate_up_weights")),
    "bfp4 weights in all linears but the LM head": variant(**stored("bfloat4_b", *WEIGHTS[:3])),
    "bfp8 SiLU*up": variant(**stored("bfloat8_b", "silu_mul_output")),
    "approximate exp in attention": variant(approximate_exp=True),
}


def golden_activations(folder: Any, ids: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """What each layer's QKV and down projection are given by the fp32 model, [1, 1, S, K]."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    activations: list[dict[str, torch.Tensor]] = [{} for _ in network.model.layers]
    for kept, layer in zip(activations, network.model.layers, strict=True):
        for point, module in (("qkv", layer.self_attn.q_proj), ("down", layer.mlp.down_proj)):
            module.register_forward_pre_hook(
                lambda _, args, kept=kept, point=point: kept.__setitem__(point, args[0][None].detach())
            )
    with torch.no_grad():
        network(ids[None])
    return activations


def compute(fidelity: str, fp32: bool) -> Any:
    import ttnn

    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=getattr(ttnn.MathFidelity, fidelity),
        math_approx_mode=False,
        fp32_dest_acc_en=fp32,
        packer_l1_acc=True,
    )


def one_block(k: int) -> Any:
    """A program on one core whose only K block is all of K."""
    import ttnn

    return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=(1, 1),
        in0_block_w=k // 32,
        out_subblock_h=1,
        out_subblock_w=2,
        per_core_M=1,
        per_core_N=2,
        fuse_batch=True,
        mcast_in0=True,
    )


def put_tile(values: torch.Tensor, dtype: str, device: Any) -> Any:
    import ttnn

    return ttnn.from_torch(values, dtype=getattr(ttnn, dtype), layout=ttnn.TILE_LAYOUT, device=device)


def mean_of(values: list[float], form: str) -> str:
    """Mean ± standard error."""
    mean, spread = statistics.mean(values), statistics.stdev(values)
    return f"{form.format(mean)} ± {form.format(spread / math.sqrt(len(values))).lstrip('+')}"


if __name__ == "__main__":
    app()
