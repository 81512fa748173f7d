"""What the statistical gate on perplexity finds: by simulation, and of a real change of precision on SmolLM2.

    python benchmarks/gate_power.py simulate [--tokens 4096] [--runs 1000] [--seed 0]
    python benchmarks/gate_power.py real [--windows 4] [--mode device] [--baseline accuracy] [--changed performance]

Both judge by the gate that ci/policy.yaml has for the policy "accuracy" on text, a paired test at its alpha with its effect.

simulate draws per-token differences of log-likelihood from a Student t with 4 degrees of freedom, whose tails are those of
real ones, with the standard deviation that SmolLM2 has under "accuracy" against the fp32 model (.042 nats, mode device). real
runs windows of 1,024 tokens through the fp32 model and the emulated device under both policies, and judges each.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
import typer

from ci.policy import Policy, Rule, judge
from harness.metrics import PairedPerplexity, paired, paired_nll_test, perplexity

NOISE = 0.042  # nats
WINDOW = 1024
CHANGES = (0.0, 0.003, 0.005, 0.007)

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)


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
    windows: Annotated[int, typer.Option(min=1, help="of 1,024 tokens; 1,023 of each are scored")] = 4,
    mode: Annotated[str, typer.Option(help="the emulator's")] = "device",
    baseline: Annotated[str, typer.Option(help="a precision policy")] = "accuracy",
    changed: Annotated[str, typer.Option(help="another one")] = "performance",
) -> None:
    """The verdict on the same tokens before and after a change of the precision policy."""
    from harness.targets import activate

    activate("emulator", mode=mode)
    import tt_llm
    from goldens import Reference, load_text
    from goldens import windows as cut
    from tt_llm.checkpoint import locate
    from tt_llm.mesh import open_mesh

    rule = gate()
    reference = Reference(locate("smollm2"))
    tokens = cut(load_text(), reference.tokenizer, WINDOW, windows)
    golden = [perplexity(reference.run(one, {"logits"})["logits"], one).nll for one in tokens.split(1)]
    print(f"{windows * (WINDOW - 1)} tokens, mode {mode}; {said(rule)}")
    for precision in (baseline, changed):
        generator = tt_llm.load("smollm2", open_mesh((1, 1)), precision, 1, WINDOW)
        device = [
            perplexity(generator.prefill_forward(one.int(), all_logits=True), one).nll
            for one in tokens.split(1)
        ]
        found = paired_nll_test(torch.cat(golden), torch.cat(device))
        print(
            f"{precision}: perplexity {found.change:+.2%}, standard error {found.stderr:.2%}, p {found.p_value:.2g}: "
            f"{verdict(found, rule)}; found with power {rule.power:g}: {found.detectable:.2%}"
        )


def gate() -> Rule:
    """That of perplexity on text under the policy "accuracy"."""
    return Policy.load().resolve(
        metric="perplexity_error", module="text", phase="prefill", precision="accuracy"
    )


def verdict(found: PairedPerplexity, rule: Rule) -> str:
    details = {"p_value": found.p_value, "detectable": found.detectable}
    return judge(abs(found.change), rule, details)


def said(rule: Rule) -> str:
    return f"gate {rule.source}: alpha {rule.alpha:g}, effect {rule.gate:.2%}"


if __name__ == "__main__":
    app()
