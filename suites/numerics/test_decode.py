"""Paged decode of two users: the cache bit for bit, the recorded distance to the golden, and what must not change a bit."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.numerics.agreement import agreement
from harness.conformance.numerics.decoding import Decoding, cache_of_recorded_rows
from harness.conformance.numerics.filing import Filing, of_precision
from harness.conformance.numerics.model import Calls, Model
from harness.conformance.numerics.recordings import Recording
from harness.conformance.numerics.replay import digest, read
from harness.metrics import compare_tensors, kl_divergence

RECORDING = Recording("decode")
PRECISION = "performance"  # policy P8
STEPS = 4
LAYERS = (0, 15)  # whose caches were recorded


@pytest.fixture(scope="module")
def decoding(weights, computing_device):
    model = Model(computing_device, weights, Calls(RECORDING.phase("decode_both")))
    return Decoding(RECORDING, model)


@pytest.fixture(scope="module")
def both(decoding):
    """Both users' four steps: traces, and the caches, K and V of every layer, before the first step and after the last."""
    caches = decoding.prefilled(decoding.users)
    before = [tuple(read(cache) for cache in layer) for layer in caches]
    traces = [decoding.step("decode_both", step, decoding.users, caches) for step in range(STEPS)]
    return traces, before, caches


@pytest.fixture(scope="module")
def golden(tt_session, decoding):
    """Logits [step, user, vocab] of the fp32 model on each user's text."""
    reference = tt_session.reference("float32")
    users = []
    for user in decoding.users:
        logits = reference.run(torch.tensor([user.ids]), {"logits"})["logits"][0]
        users.append(logits[user.prompt : user.prompt + STEPS])
    return torch.stack(users, 1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ["k", "v"])
def test_cache_from_recorded_rows(name, layer, weights, computing_device, recorder):
    """The recorded rows, written by the cache ops through the page table, give the whole recorded cache."""
    cache = cache_of_recorded_rows(RECORDING, computing_device, name, layer)
    equal = digest(cache) == RECORDING.info["cache_sha"][f"{name}{layer}"]
    filing = Filing(of_precision(recorder, PRECISION))
    details = {"setting": f"{name} cache of layer {layer} from its recorded rows", "compared": "by digest"}
    filing.figure("bit_exact", float(equal), cache.numel(), "kv_cache", details, judged=True)
    filing.close()


def test_steps(decoding, both, golden, recorder):
    """Four teacher-forced steps are as far from the golden as the recorded ones."""
    traces, _, _ = both
    ours = torch.stack([trace.logits[: len(decoding.users)] for trace in traces])
    rows = RECORDING.info["recorded"]["steps"]
    filing = Filing(of_precision(recorder, PRECISION))
    mean = sum(one["kl_golden_device_nats"] for one in rows) / len(rows)
    filing.error("mean KL to the golden", kl_divergence(golden, ours).mean, mean, len(rows), "model")
    gaps = [
        1 - compare_tensors(ours[one["step"], one["user"]], golden[one["step"], one["user"]]).pcc
        for one in rows
    ]
    recorded = [1 - one["logits_pcc"] for one in rows]
    filing.error(
        "mean 1-PCC of the logits", sum(gaps) / len(gaps), sum(recorded) / len(rows), len(rows), "model"
    )
    kl = kl_divergence(RECORDING.arrays["logits"], ours).mean
    details = {"what": "KL(recorded || ours), device against golden", "ours": kl, "recorded": mean}
    filing.figure("kl_share", kl / mean, len(rows), "model", details, judged=False)
    filing.close()


def test_cache_after_the_steps(decoding, both, recorder):
    """What the whole run leaves in the caches, chained: shown beside the recorded rows, which inherit other errors."""
    _, _, caches = both
    filing = Filing(of_precision(recorder, PRECISION))
    for layer in LAYERS:
        for name, cache in zip("kv", caches[layer], strict=True):
            blocks = read(cache)[decoding.table.long()]  # [32 users, 4 blocks, heads, 32, head_dim]
            for user in decoding.users:
                rows = torch.cat(list(blocks[user.row]), 1)[:, : len(user.ids)]
                expected = torch.cat(list(RECORDING.arrays[f"{name}_layer{layer}_user{user.row}_blocks"]), 1)
                agreed = agreement(rows, expected[:, : len(user.ids)], "BFLOAT8_B")
                details = {
                    "setting": f"{name} cache of layer {layer}, user {user.row}, chained",
                    "max_ulp": agreed.max_ulp,
                    "ulps": agreed.ulps,
                    "recorded_gap": agreed.gap,
                }
                filing.figure("bit_exact", agreed.bit_exact, agreed.n, "kv_cache", details, judged=False)
    filing.close()


def test_only_addressed_rows_change(decoding, both):
    """No cache position changes in the steps but the users' own new ones."""
    _, before, caches = both
    for old, new in zip(before, caches, strict=True):
        for was, now in zip(old, new, strict=True):
            changed = (was != read(now)).any(-1).any(1)  # [blocks, positions]
            for user in decoding.users:
                for at in range(user.prompt, user.prompt + STEPS):
                    page, row = decoding.table[user.row, at // changed.shape[1]], at % changed.shape[1]
                    assert changed[page, row], f"position {at} of user {user.row} was not written"
                    changed[page, row] = False
            assert not changed.any(), "a row that nobody addressed has changed"


def test_a_user_does_not_see_another(decoding, both):
    """User 0 alone has the bits it has beside user 1."""
    traces, _, _ = both
    alone = decoding.users[:1]
    caches = decoding.prefilled(alone)
    for step in range(2):
        trace = decoding.step("decode_solo", step, alone, caches)
        assert torch.equal(trace.hidden[:, 0], traces[step].hidden[:, 0]), (
            f"hidden states differ in step {step}"
        )
        assert torch.equal(trace.logits[0], traces[step].logits[0]), f"logits differ in step {step}"


def test_rows_of_the_batch_do_not_matter(decoding, both):
    """Users moved to rows 17 and 3, with later tokens in the cache already but masked, have the same bits."""
    traces, _, caches = both
    moved = decoding.step("decode_slots_17_3", 0, decoding.users, caches, {0: 17, 1: 3})
    assert torch.equal(moved.logits[[17, 3]], traces[0].logits[:2])
    assert torch.equal(moved.hidden[:, [17, 3]], traces[0].hidden[:, :2])


def test_a_longer_prefill_keeps_its_rows(decoding):
    """A prefill padded to 64 tokens has in its first 32 rows, in every layer, the bits of one of 32."""
    ids = torch.tensor(decoding.users[0].ids[:32])
    short = decoding.prefill(ids)
    assert torch.equal(decoding.prefill64().hidden[:, :32], short.hidden)
