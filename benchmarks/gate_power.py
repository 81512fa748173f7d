"""What the statistical gate on perplexity finds: by simulation, and of a real change of precision on SmolLM2.

    python benchmarks/gate_power.py simulate [--tokens 4096] [--runs 1000] [--seed 0]
    python benchmarks/gate_power.py real [--windows 4] [--mode device] [--baseline accuracy] [--changed performance]
    python benchmarks/gate_power.py layers [--windows 16] [--mode device] [--counts 0,20,30,31]

All judge by the gate that ci/policy.yaml has for the policy "accuracy" on text, a paired test at its alpha with its effect.

simulate draws per-token differences of log-likelihood from a Student t with 4 degrees of freedom, whose tails are those of
real ones, with the standard deviation that SmolLM2 has under "accuracy" against the fp32 model (.042 nats, mode device). real
runs windows of 1,024 tokens through the fp32 model and the emulated device under both policies, and judges each. layers changes
the policy "accuracy" in its first layers alone, the LM head being the last: their linears get a bfloat16 destination, a change
as small as one likes. All windows say how large it is, and four of them at a time are judged.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
import typer

from harness.gates.policy import Policy, Rule, judge
from harness.metrics import PairedPerplexity, paired, paired_nll_test, perplexity

NOISE = 0.042  # nats
WINDOW = 1024
RUN = 4  # windows that are judged together
CHANGES = (0.0, 0.003, 0.005, 0.007)

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
Windows = Annotated[int, typer.Option(min=1, help="of 1,024 tokens; 1,023 of each are scored")]
Mode = Annotated[str, typer.Option(help="the emulator's")]


@app.command()
def simulate(
    tokens: Annotated[int, typer.Option(min=64, help="scored")] = 4096,
    runs: Annotated[int, typer.Option(min=1)] = 1000,
    seed: int = 0,
) -> None:
    """How often a run of that many tokens is a regression, for several true changes."""
    paired.RESAMPLES = 2  # the interval is not asked for
    rule = gate()
    rng = np.random.default_rng(seed)
    golden = torch.zeros(1, tokens, dtype=torch.float64)
    print(f"{runs} runs of {tokens} tokens; {said(rule)}")
    for change in CHANGES:
        verdicts = []
        for _ in range(runs):
            # A Student t with 4 degrees of freedom has variance 2.
            noise = rng.standard_t(4, tokens) * NOISE / math.sqrt(2) + math.log1p(change)
            verdicts.append(verdict(paired_nll_test(golden, torch.from_numpy(noise)[None]), rule))
        shares = ", ".join(f"{kind} {verdicts.count(kind) / runs:.1%}" for kind in sorted(set(verdicts)))
        print(f"true change {change:+.2%}: {shares}")


@app.command()
def real(
    windows: Windows = 4,
    mode: Mode = "device",
    baseline: Annotated[str, typer.Option(help="a precision policy")] = "accuracy",
    changed: Annotated[str, typer.Option(help="another one")] = "performance",
) -> None:
    """The verdict on the same tokens before and after a change of the precision policy."""
    from harness.targets import activate

    activate("emulator", mode=mode)
    import tt_llm
    from tt_llm.mesh import open_mesh

    text = Text(windows, mode)
    for precision in (baseline, changed):
        text.judge(precision, tt_llm.load("smollm2", open_mesh((1, 1)), precision, 1, WINDOW))


@app.command()
def layers(
    windows: Windows = 4,
    mode: Mode = "device",
    counts: Annotated[
        str, typer.Option(help="how many layers are changed, comma-separated")
    ] = "0,10,15,20,30",
) -> None:
    """The verdict when the linears of some layers, from the first on, add in a bfloat16 destination."""
    from harness.targets import activate

    activate("emulator", mode=mode)
    import tt_llm
    from tt_llm import precision
    from tt_llm.mesh import open_mesh

    base = precision.named("accuracy")
    narrow = replace(base.linear, fp32_dest=False)
    precision.PRECISIONS["narrow"] = replace(base, name="narrow", linear=narrow, gate_up=narrow)
    device = open_mesh((1, 1))
    generator, other = (tt_llm.load("smollm2", device, name, 1, WINDOW) for name in ("accuracy", "narrow"))
    text, whole, head = Text(windows, mode), list(generator.model.layers), generator.model.lm_head
    for count in map(int, counts.split(",")):
        generator.model.layers = [*other.model.layers[:count], *whole[count:]]
        generator.model.lm_head = other.model.lm_head if count > len(whole) else head
        text.judge(f"bfloat16 destination in {count} of {len(whole) + 1} layers", generator)


class Text:
    """Windows of CPython's language reference, with what the fp32 model thinks of each token."""

    def __init__(self, windows: int, mode: str) -> None:
        from goldens import Reference, load_text
        from goldens import windows as cut
        from tt_llm.checkpoint import locate

        reference = Reference(locate("smollm2"))
        self.rule = gate()
        self.windows = cut(load_text(), reference.tokenizer, WINDOW, windows).split(1)
        self.golden = [perplexity(reference.run(one, {"logits"})["logits"], one).nll for one in self.windows]
        print(f"{windows} windows of {WINDOW - 1} tokens, mode {mode}; {said(self.rule)}")

    def judge(self, name: str, generator: Any) -> None:
        """Prints by how much a generator's perplexity differs on all of them, and the verdicts on RUN at a time."""
        device = [
            perplexity(generator.prefill_forward(one.int(), all_logits=True), one).nll for one in self.windows
        ]
        paired = paired_nll_test(torch.cat(self.golden), torch.cat(device))
        print(
            f"{name}: perplexity {paired.change:+.2%}, standard error {paired.stderr:.2%}, p {paired.p_value:.2g}"
        )
        for start in range(0, len(device), RUN):
            run = slice(start, start + RUN)
            paired = paired_nll_test(torch.cat(self.golden[run]), torch.cat(device[run]))
            print(
                f"    windows {start} to {start + len(device[run]) - 1}: {paired.change:+.2%}, standard error "
                f"{paired.stderr:.2%}, p {paired.p_value:.2g}: {verdict(paired, self.rule)}; found with power "
                f"{self.rule.power:g}: {paired.detectable:.2%}",
                flush=True,
            )


def gate() -> Rule:
    """That of perplexity on text under the policy "accuracy"."""
    return Policy.load().resolve(
        metric="perplexity_error", module="text", phase="prefill", precision="accuracy"
    )


def verdict(paired: PairedPerplexity, rule: Rule) -> str:
    details = {"p_value": paired.p_value, "detectable": paired.detectable}
    return judge(abs(paired.change), rule, details)


def said(rule: Rule) -> str:
    return f"gate {rule.source}: alpha {rule.alpha:g}, effect {rule.gate:.2%}"


if __name__ == "__main__":
    app()
