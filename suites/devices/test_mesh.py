"""The devices of a mesh against the golden one by one, against one another, and against one device alone."""

from __future__ import annotations

import pytest
import torch
import ttnn

from harness.metrics import agreement_length, flip_cost, perplexity, perplexity_change
from harness.run.recorder import Regression
from harness.run.strict import assert_replicated
from harness.run.text_scores import perplexity_test
from harness.targets import active
from tt_llm.checkpoint import split_rope_halves
from tt_llm.kv_cache import padded_page_table
from tt_llm.mesh import replicate

pytestmark = pytest.mark.devices
NEW_TOKENS = 32


@pytest.fixture(autouse=True)
def _several(tt_session):
    if tt_session.mesh_shape == (1, 1):
        pytest.skip("one device has no others to disagree with; give --tt-mesh 1x2 or more")


@pytest.mark.tt_golden("decoder", layer=[0, 14, -1], seq_len=512)
def test_every_device_caches_its_own_heads(generator, tt_session, golden, golden_spec, compare):
    """Each key-value head, on every device that holds it, equals the golden's at every position; the others hold zeros."""
    length, users = golden_spec.seq_len, golden_spec.batch
    generator.prefill_forward(tt_session.tokens(length, users).int())
    tp, head_dim = generator.model.tp, generator.model.config.head_dim
    rotary_dim = generator.model.config.rotary_dim
    lines = []
    for device, heads in enumerate(tp.kv_heads):
        k, v = generator.kv_cache.gather_device(
            golden_spec.layer, generator.page_table[:users], length, device
        )
        for slot, head in enumerate(heads):
            ours = split_rope_halves(k[:, slot : slot + 1], head_dim, rotary_dim), v[:, slot : slot + 1]
            if head is None:
                assert not any(t.any() for t in ours), (
                    f"device {device}: slot {slot} holds no head and is not zero"
                )
                continue
            for mine, theirs in zip(ours, (golden.outputs["k"], golden.outputs["v"]), strict=True):
                try:
                    compare(
                        mine,
                        theirs[:, head : head + 1],
                        module="kv_cache",
                        note=f"device {device}, head {head}",
                    )
                except Regression as error:  # filed; the other devices' heads are looked at all the same
                    lines.append(str(error))
    if lines:
        raise Regression("\n".join(lines))


@pytest.mark.tt_golden("model", seq_len=128, batch=1)
def test_devices_agree_after_every_layer(generator, golden, compare):
    """The residual is the same on all devices, bit for bit, where it is not sharded; its logits are the golden's."""
    tokens = golden.inputs["tokens"].int()
    model, cache = generator.model, generator.kv_cache
    device = generator.mesh_device
    table = replicate(
        padded_page_table(generator.page_table[:1], cache.n_blocks), device, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
    )
    angles = [rope.prefill_angles(tokens.shape[1]) for rope in model.ropes]
    x = model.embedding.prefill(replicate(tokens, device, ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT))
    for layer, (block, pages) in enumerate(zip(model.layers, cache.layers, strict=True)):
        x = block.prefill(x, angles[layer], pages, table, 0)
        if not model.tp.residual_is_sharded:
            assert_replicated(x, f"output of layer {layer}")
    logits = torch.zeros(1, tokens.shape[1], model.config.vocab_size)
    model.prefill_logits(x, range(tokens.shape[1]), logits[0])
    compare(logits, golden.output)


@pytest.mark.tt_golden("model", seq_len=1024, batch=2)
def test_perplexity_is_that_of_one_device(generator, tt_session, tt_precision, golden, recorder):
    """Splitting a model over devices changes its perplexity by no more than the gate, on the same tokens."""
    _needs_both()
    tokens = golden.inputs["tokens"].int()
    split = perplexity(generator.prefill_forward(tokens, all_logits=True), golden.inputs["tokens"])
    alone = tt_session.generator_alone(tt_precision)
    whole = perplexity(alone.prefill_forward(tokens, all_logits=True), golden.inputs["tokens"])
    change = perplexity_change(whole, split)
    details = {
        "perplexity": split.value,
        "one_device": whole.value,
        "change": change.change,
        "stderr": change.stderr,
    }
    recorder.judge(
        {"mesh_perplexity_change": abs(change.change)},
        whole.n,
        "model",
        details=details,
        paired={"mesh_perplexity_change": perplexity_test(whole.nll, split.nll)},
    )


@pytest.mark.tt_golden("generate", phase="decode", steps=NEW_TOKENS)
def test_greedy_text_is_that_of_one_device(generator, tt_session, tt_precision, golden, recorder):
    """The first prompt goes on with the same tokens; where the others part, one device must have been near a tie."""
    _needs_both()
    tokens, lens = golden.inputs["tokens"], golden.inputs["prompt_lens"].tolist()
    prompts = [row[:length].tolist() for row, length in zip(tokens, lens, strict=True)]
    split = generator.generate(prompts, NEW_TOKENS, stop_at_eos=False)
    alone = tt_session.generator_alone(tt_precision)
    whole = alone.generate(prompts, NEW_TOKENS, stop_at_eos=False)
    costs = []
    for prompt, ours, theirs in zip(prompts, split, whole, strict=True):
        inputs = torch.tensor([prompt + theirs[:-1]], dtype=torch.int32)
        chosen_from = alone.prefill_forward(inputs, all_logits=True)[0, len(prompt) - 1 :]
        costs.append(flip_cost(chosen_from, theirs, ours))
    agreed = [agreement_length(ours, theirs) for ours, theirs in zip(split, whole, strict=True)]
    figures = {"mesh_agreement_length": float(agreed[0]), "mesh_flip_cost": max(costs)}
    recorder.judge(figures, NEW_TOKENS, "model", details={"agreed": str(agreed), "costs": str(costs)})


def _needs_both():
    if active().native:
        pytest.skip(
            f"{active().name} has the mesh alone: its answer is not held against one device's, which the emulator does"
        )
