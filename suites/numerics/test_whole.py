"""SmolLM2 whole, in the recorded op sequence, under three policies: as far from the golden as the device, and near it."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.numerics.agreement import agreement, partial_kl
from harness.conformance.numerics.filing import Filing, mode, of_precision
from harness.conformance.numerics.model import Calls, Model
from harness.conformance.numerics.recordings import Recording, arrays
from harness.metrics import compare_tensors, kl_divergence, perplexity, token_agreement

POLICIES = {"A": "accuracy", "P8": "performance", "P": "bfp4_mlp"}


@pytest.fixture(scope="module")
def recorded_golden():
    return arrays("whole_golden")


@pytest.fixture(scope="module")
def golden(tt_session, weights, recorded_golden):
    """Logits [32, vocab] and hidden states [31, 32, dim] of the fp32 model; the recorded golden's, to 1e-5."""
    layers = [f"layers.{i}.output" for i in range(weights.config.n_layers)]
    points = ["embedding.output", *layers]
    ids = recorded_golden["ids"].long()
    activations = tt_session.reference("float32").run(ids[None], {"logits", *points})
    logits = activations["logits"][0]
    expected = recorded_golden["top64_logits"]
    ours = logits.gather(1, recorded_golden["top64_ids"].long())
    assert compare_tensors(ours, expected).rel_l2 < 1e-5, "the golden is not the one that was recorded"
    return logits, torch.stack([activations[point][0] for point in points])


@pytest.fixture(scope="module", params=POLICIES)
def policy(request, weights, computing_device):
    """One policy's recording and the model that replays it; the next policy frees the last."""
    recording = Recording(f"whole_{request.param}")
    calls = Calls(recording.steps)
    return request.param, recording, calls, Model(computing_device, weights, calls)


def test_prefill(policy, golden, recorded_golden, recorder):
    """Logits and the hidden state after every layer, all chained from the embedding on."""
    name, recording, calls, model = policy
    logits, hidden = golden
    trace = model.prefill(calls, recorded_golden["ids"])
    info = recording.info["recorded"]
    filing = Filing(of_precision(recorder, POLICIES[name]))
    n = len(logits)

    kl = partial_kl(recording.arrays, recorded_golden["top64_ids"], trace.logits)
    reference = info["metrics_device_vs_host_fp32_with_device_quantised_weights"]
    weights_kl = reference["mean_kl_golden_device_nats"]
    details = {"what": "KL(recorded || ours), device against its weights", "ours": kl, "recorded": weights_kl}
    filing.figure("kl_share", kl / weights_kl, n, "model", details, judged=mode() != "fast")

    comparison, device = compare_tensors(trace.logits, logits), info["metrics_vs_fp32_golden"]
    divergence = kl_divergence(logits, trace.logits)
    for what, ours, recorded in (
        ("1-PCC of the logits", 1 - comparison.pcc, 1 - device["logits_pcc"]),
        ("1-PCC of their worst row", 1 - comparison.worst_row_pcc, 1 - device["logits_row_pcc_min"]),
        ("mean KL to the golden", divergence.mean, device["mean_kl_golden_device_nats"]),
    ):
        filing.error(what, ours, recorded, n, "model")
    # Shown only: over 31 predicted tokens both move in steps too coarse for a gate.
    tokens = recorded_golden["ids"].long()
    filing.error(
        "perplexity", perplexity(trace.logits, tokens).value, device["ppl_device"], n - 1, "model", ()
    )
    top1 = token_agreement(logits, trace.logits).top1
    filing.error("top-1 agreement", top1, device["top1_agreement"], n, "model", ())
    for index, recorded in enumerate(info["hidden_rel_l2"]):
        point = f"layer {index - 1}" if index else "the embedding"
        ours = compare_tensors(trace.hidden[index], hidden[index]).rel_l2
        what, n = f"relative L2 after {point}", hidden[index].numel()
        filing.error(what, ours, recorded, n, "model", group="relative L2 after each layer")
    filing.close()


def test_each_layer_alone(policy, recorder):
    """A layer fed with the recorded hidden state: what it differs by is its own, nothing is inherited."""
    name, recording, calls, model = policy
    filing = Filing(of_precision(recorder, POLICIES[name]))
    hidden = recording.arrays["hidden"]
    for index in range(len(hidden) - 1):
        ours, recorded = model.layer(calls, index, hidden[index]), hidden[index + 1]
        agreed = agreement(ours, recorded, "BFLOAT16")
        added = compare_tensors(ours - hidden[index], recorded - hidden[index])
        details = {
            "setting": f"{POLICIES[name]}, layer {index} alone",
            "group": f"{POLICIES[name]}, each layer alone from the recorded hidden state",
            "max_ulp": agreed.max_ulp,
            "ulps": agreed.ulps,
            "recorded_gap": agreed.gap,
            "rel_l2_of_what_it_adds": added.rel_l2,
        }
        # Not gated: the composed ops in it are held to 2 ulp, and each such step moves all that follows.
        filing.figure("bit_exact", agreed.bit_exact, agreed.n, "decoder", details, judged=False)
    filing.close()
