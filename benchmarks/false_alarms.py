"""How often the gates cry wolf: a healthy model judged again and again with nothing that should matter being the same.

`python benchmarks/false_alarms.py` does two things, each 200 times with another seed, and counts the runs that miss a gate
of ci/policy.yaml:

reruns: a small random Llama on the emulator, in full each time: other prompts, another order of the batch, other rows in
every step, shuffled pages. Judged: the tensor metrics, KL and perplexity against its fp32 reference, and that a second run
in yet another order gives the same bits. Not top-1 and top-5: of its 112 positions one near tie is almost a percent.

texts: SmolLM2 over windows of real text, run once each on the emulator; a run draws as many windows at random as
suites/accuracy has (2,048 positions) and judges all accuracy metrics. Resampled from real logits, not run anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.stats import beta

from harness.gates.policy import Policy, judge
from harness.metrics import compare_tensors, kl_divergence, perplexity, perplexity_change, token_agreement
from harness.targets import activate

USERS, PROMPT, STEPS = 4, 24, 4
WINDOW, DRAWN = 512, 4
Figures = dict[str, float]


def main() -> None:
    """Prints each alarm, then for both kinds the rate and its 95% upper limit (Clopper-Pearson)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--windows", type=int, default=16, help="of text, to draw from")
    parser.add_argument("--precision", default="accuracy")
    parser.add_argument("--mode", default="fast", help="the emulator's")
    arguments = parser.parse_args()
    activate("emulator", mode=arguments.mode)
    policy = Policy.load()
    for kind, runs in (
        ("reruns", reruns(arguments.runs, arguments.precision)),
        ("texts", texts(arguments.runs, arguments.windows, arguments.precision)),
    ):
        start, alarms = time.process_time(), 0
        for seed, values in enumerate(runs):
            missed = [
                line for metric, value in values.items() if (line := alarm(policy, metric, value, arguments))
            ]
            alarms += bool(missed)
            if missed:
                print(f"{kind}, seed {seed}: {'; '.join(missed)}")
        upper = float(beta.ppf(0.95, alarms + 1, arguments.runs - alarms)) if alarms < arguments.runs else 1.0
        print(
            f"{kind}: {alarms} alarms in {arguments.runs} runs ({alarms / arguments.runs:.1%}, 95% upper limit {upper:.1%}); "
            f"{arguments.precision}, mode {arguments.mode}, {time.process_time() - start:.0f} s of CPU"
        )


def alarm(policy: Policy, metric: str, value: float, arguments: argparse.Namespace) -> str:
    """What a value misses, or nothing."""
    rule = policy.resolve(
        metric=metric, module="model", precision=arguments.precision, target="emulator", mode=arguments.mode
    )
    return "" if judge(value, rule) == "pass" else f"{metric} {value:.4g}, gate {rule.gate:g}"


def reruns(runs: int, precision: str) -> Iterator[Figures]:
    """The small model's figures, each run on the emulator."""
    import tt_llm
    from goldens import Reference
    from tt_llm.mesh import open_mesh

    with tempfile.TemporaryDirectory() as folder:
        save_small_model(Path(folder))
        generator = tt_llm.load(folder, open_mesh((1, 1)), precision, USERS, 64)
        reference = Reference(folder)
        for seed in range(runs):
            random = torch.Generator().manual_seed(seed)
            tokens = torch.randint(0, 256, (USERS, PROMPT + STEPS), generator=random)
            golden = reference.run(tokens, {"logits"})["logits"]
            device, again = (answers(generator, tokens, random) for _ in range(2))
            values = tensor_figures(golden, device) | accuracy_figures(golden, device, tokens)
            values["changed_values"] = float((device != again).sum())
            values["perplexity_error"] = abs(values["perplexity_error"])
            yield {metric: value for metric, value in values.items() if metric not in ("top1", "top5")}


def texts(runs: int, windows: int, precision: str) -> Iterator[Figures]:
    """SmolLM2's figures over DRAWN of its windows of text at a time."""
    import tt_llm
    from goldens import Reference, load_text
    from goldens import windows as windows_of
    from tt_llm.checkpoint import locate
    from tt_llm.mesh import open_mesh

    reference = Reference(locate("smollm2"))
    generator = tt_llm.load("smollm2", open_mesh((1, 1)), precision, 1, WINDOW)
    parts = []
    for tokens in windows_of(load_text(None), generator.tokenizer, WINDOW, windows).split(1):
        golden = reference.run(tokens, {"logits"})["logits"]
        device = generator.prefill_forward(tokens.int(), all_logits=True)
        parts.append(tensor_figures(golden, device) | accuracy_figures(golden, device, tokens))
    for seed in range(runs):
        drawn = torch.randperm(windows, generator=torch.Generator().manual_seed(seed))[:DRAWN].tolist()
        yield {metric: over([parts[i][metric] for i in drawn], metric) for metric in parts[0]}


def over(values: list[float], metric: str) -> float:
    """A figure of several windows: a share's or a mean's is their mean, of a tensor's error the worst of them stands."""
    if metric in ("top1", "top5", "kl"):
        return sum(values) / len(values)
    if metric == "perplexity_error":  # |mean change|, of changes with their sign
        return abs(sum(values) / len(values))
    return min(values) if metric.endswith("pcc") else max(values)


def answers(generator: object, tokens: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Logits [users, positions, vocab]: prompts in a random order, then steps in random rows, over random pages."""
    order = torch.randperm(USERS, generator=random)
    blocks = generator.page_table.flatten()
    pages = blocks[torch.randperm(len(blocks), generator=random)].reshape(generator.page_table.shape)
    prompts = tokens[order, :PROMPT].int()
    prefilled = generator.prefill_forward(prompts, page_table=pages[order], all_logits=True)
    parts = [prefilled[order.argsort()]]
    for at in range(PROMPT, tokens.shape[1]):
        rows = torch.randperm(USERS, generator=random)
        positions = torch.full((USERS,), at, dtype=torch.int32)
        step = generator.decode_forward(tokens[rows, at : at + 1].int(), positions, page_table=pages[rows])
        parts.append(step[rows.argsort()])
    return torch.cat(parts, dim=1)


def tensor_figures(golden: torch.Tensor, device: torch.Tensor) -> Figures:
    """As `compare` judges logits: each row's mean taken off."""
    comparison = compare_tensors(*(logits - logits.mean(-1, keepdim=True) for logits in (device, golden)))
    names = ("pcc", "worst_row_pcc", "rel_l2", "worst_row_rel_l2", "norm_error", "nonfinite")
    return {name: float(getattr(comparison, name)) for name in names}


def accuracy_figures(golden: torch.Tensor, device: torch.Tensor, tokens: torch.Tensor) -> Figures:
    """As suites/accuracy has them; the change of perplexity with its sign."""
    agreement = token_agreement(golden, device)
    change = perplexity_change(perplexity(golden, tokens), perplexity(device, tokens)).change
    kl = kl_divergence(golden, device, tokens).mean
    return {"top1": agreement.top1, "top5": agreement.top5, "kl": kl, "perplexity_error": change}


def save_small_model(folder: Path) -> None:
    """A random Llama of two layers with a tokenizer of bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    main()
