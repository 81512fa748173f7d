"""Sliding windows and sinks in attention: against float32 PyTorch in every mode, and against the kernels' loops written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.emulator import DeviceError, api
from harness.emulator.arithmetic import fpu, mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.sfpu import functions as sfpu
from harness.emulator.ops.attention import sfpu_steps
from harness.emulator.ops.attention.prefill_steps import bf16, grouped_matmul

TOLERANCE = {Mode.FAST: 0.02, Mode.DEVICE: 0.035, Mode.EXACT: 0.035}
FULL = api.WormholeComputeKernelConfig(math_fidelity=api.MathFidelity.HiFi4, fp32_dest_acc_en=True)
SDPA = api.transformer.scaled_dot_product_attention
DECODE = api.transformer.scaled_dot_product_attention_decode
PAGED = api.transformer.paged_scaled_dot_product_attention_decode


@pytest.fixture
def arithmetic(request):
    with mode.using(request.param):
        yield


every_mode = pytest.mark.parametrize("arithmetic", list(Mode), ids=lambda m: m.value, indirect=True)
either_dest = pytest.mark.parametrize("compute", [None, FULL], ids=["bf16 dest", "fp32 dest"])


def random(*shape):
    return torch.randn(*shape).bfloat16()


def visible(rows, keys, window, causal, position=0):
    behind = position + torch.arange(rows)[:, None] - torch.arange(keys)
    if not window:
        return behind >= 0 if causal else torch.ones(rows, keys, dtype=torch.bool)
    return (behind >= 0) & (behind < window) if causal else behind.abs() <= window // 2


def reference(q, k, v, seen, scale, sink=None):
    """softmax over the visible keys and, for each head, a score of sink * scale more: q [B, nq, Sq, D]."""
    k, v = (t.float().repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    scores = (q.float() @ k.transpose(2, 3) * scale).masked_fill(~seen, -torch.inf)
    if sink is not None:
        more = (sink.float() * scale).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores, v = torch.cat([scores, more], -1), F.pad(v, (0, 0, 0, 1))
    return scores.softmax(-1) @ v


def close(got, expected, factor=1.0):
    error = float((got.float() - expected.float()).norm() / expected.float().norm())
    assert error < factor * TOLERANCE[mode.current()], error


def chunks(q, k):
    return api.SDPAProgramConfig(compute_with_storage_grid_size=(8, 8), q_chunk_size=q, k_chunk_size=k)


@every_mode
@either_dest
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
@pytest.mark.parametrize("window", [1, 32, 40, 500])
def test_a_window_hides_the_other_keys(put, arithmetic, compute, causal, window):
    """A query sees its own last keys, or those around it, across chunks of either size."""
    # Where no position hides them, keys that fill the last chunk count with an fp32 Dest.
    rows = 192 if causal else 256
    q, k, v = random(1, 4, rows, 64), random(1, 2, rows, 64), random(1, 2, rows, 64)
    for config in (None, chunks(64, 32), chunks(32, 128)):
        out = SDPA(
            *map(put, (q, k, v)),
            is_causal=causal,
            sliding_window_size=window,
            program_config=config,
            compute_kernel_config=compute,
        )
        close(api.to_torch(out), reference(q, k, v, visible(rows, rows, window, causal), 1 / 8), 1.2)


@every_mode
@either_dest
@pytest.mark.parametrize("window", [0, 40])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
def test_a_sink_takes_its_share_of_the_weights(put, arithmetic, compute, window, causal):
    q, k, v = random(1, 4, 96, 64), random(1, 2, 96, 64), random(1, 2, 96, 64)
    sink = torch.tensor([-8.0, 0.0, 12.0, 30.0]).bfloat16()
    out = SDPA(
        *map(put, (q, k, v)),
        is_causal=causal,
        sliding_window_size=window,
        attention_sink=put(sink.view(1, 4, 1, 1)),
        compute_kernel_config=compute,
    )
    # The kernel of a bfloat16 Dest cuts the denominator: one bfloat16 ulp, always to one side.
    close(api.to_torch(out), reference(q, k, v, visible(96, 96, window, causal), 1 / 8, sink), 1.2)


class Step:
    """Decode of two users at positions 150 and 70 over caches of 256."""

    positions = (150, 70)

    def __init__(self, put):
        self.q, self.k, self.v = random(1, 2, 8, 64), random(2, 2, 256, 64), random(2, 2, 256, 64)
        for user, position in enumerate(self.positions):
            self.k[user, :, position + 1 :] = self.v[user, :, position + 1 :] = 0
        self.put = put

    def contiguous(self, **options):
        q, k, v = map(self.put, (self.q, self.k, self.v))
        return api.to_torch(DECODE(q, k, v, cur_pos=list(self.positions), **options))

    def paged(self, **options):
        table = torch.randperm(16, generator=torch.Generator().manual_seed(1)).view(2, 8).int()
        pages = []
        for cache in (self.k, self.v):
            blocks = torch.zeros(16, 2, 32, 64).bfloat16()
            for user in range(2):
                blocks[table[user].long()] = cache[user].view(2, 8, 32, 64).transpose(0, 1)
            pages.append(self.put(blocks))
        numbers = [
            self.put(x, api.int32, api.ROW_MAJOR_LAYOUT) for x in (table, torch.tensor(self.positions).int())
        ]
        return api.to_torch(PAGED(self.put(self.q), *pages, numbers[0], cur_pos_tensor=numbers[1], **options))

    def expected(self, window, sink=None):
        users = []
        for user, position in enumerate(self.positions):
            seen = visible(1, position + 1, window, True, position)
            k, v = (cache[user : user + 1, :, : position + 1] for cache in (self.k, self.v))
            users.append(reference(self.q[:, user, :, None], k, v, seen, 1 / 8, sink)[:, :, 0])
        return torch.stack(users, 1)


@every_mode
@either_dest
@pytest.mark.parametrize("how", ["contiguous", "paged"])
@pytest.mark.parametrize("window", [0, 20, 64, 90])
@pytest.mark.parametrize("with_sink", [False, True])
def test_decode_sees_its_last_keys_and_a_sink(put, arithmetic, compute, how, window, with_sink):
    step = Step(put)
    sink = torch.tensor([-8.0, 0.0, 4.0, 12.0, 20.0, 1.0, -3.0, 7.0]).bfloat16() if with_sink else None
    options = {"attention_sink": put(F.pad(sink.view(8, 1), (0, 31)))} if with_sink else {}
    out = getattr(step, how)(
        sliding_window_size=window, program_config=chunks(32, 64), compute_kernel_config=compute, **options
    )
    close(out, step.expected(window, sink), 1.2)


@pytest.mark.parametrize("arithmetic", [Mode.EXACT], indirect=True)
def test_without_a_chunk_size_a_window_in_one_chunk_shows_the_keys_beyond(put, arithmetic):
    """The kernel has one mask a chunk there, and the window's stands in for the position's: zero keys take weight."""
    step = Step(put)
    program = api.SDPAProgramConfig(compute_with_storage_grid_size=(8, 8), q_chunk_size=32, k_chunk_size=0)
    with pytest.warns(UserWarning, match="give k_chunk_size"):
        got = step.paged(sliding_window_size=20, program_config=program)
    longer = []
    for user, (position, end) in enumerate(zip(step.positions, (256, 128), strict=True)):
        seen = torch.arange(end)[None] > position - 20
        k, v = (cache[user : user + 1, :, :end] for cache in (step.k, step.v))
        longer.append(reference(step.q[:, user, :, None], k, v, seen, 1 / 8)[:, :, 0])
    close(got, torch.stack(longer, 1), 1.2)


@pytest.mark.parametrize("arithmetic", [Mode.EXACT], indirect=True)
@pytest.mark.parametrize("window", [20, 32, 70])
def test_the_streaming_kernel_step_by_step(put, arithmetic, window):
    """Chunks of queries one by one, of keys from the first that the window touches; then the sink. One head, bit for bit."""
    rows, tall, wide, scale = 128, 64, 32, 0.125
    q, k, v = random(1, 1, rows, 64), random(1, 1, rows, 64), random(1, 1, rows, 64)
    sink, hifi2 = torch.tensor(5.0).bfloat16(), Math(api.MathFidelity.HiFi2, False)
    out = SDPA(
        *map(put, (q, k, v)),
        sliding_window_size=window,
        attention_sink=put(sink.view(1, 1, 1, 1)),
        program_config=chunks(tall, wide),
    )
    made = []
    for top in range(0, rows, tall):
        own, positions = q[:, :, top : top + tall], torch.arange(top, top + tall)[:, None]
        left = -(-(window - 1) // 32)
        largest = sums = total = None
        for start in range(max(0, top // 32 - left) * 32 // wide * wide, top + tall, wide):
            keys = torch.arange(start, start + wide)
            hidden = (keys > positions) | (keys <= positions - window)
            scores = grouped_matmul(own, k[0, :, keys].transpose(1, 2), hifi2).bfloat16()
            scores = scores.masked_fill(hidden, -torch.inf)
            before, largest = largest, scores.amax(-1, keepdim=True)
            if before is not None:
                largest = torch.maximum(before, largest)
            below = fpu.subtract(scores, largest, dtype=torch.bfloat16)
            weights = sfpu.exp(below, fp32_dest=False, approx=True, scale=scale).bfloat16().relu()
            part = grouped_matmul(weights, v[0, :, keys], hifi2).bfloat16()
            if before is None:
                sums, total = weights, part
                continue
            fall = fpu.subtract(before, largest)
            alpha = sfpu_steps.correction(fall, scale, approx=True, fp32_dest=False).bfloat16()
            sums = weights + bf16(fpu.multiply(sums, alpha, hifi2))
            total = part + bf16(fpu.multiply(total, alpha, hifi2))
        weight = sfpu_steps.correction(
            fpu.subtract(largest, sink.expand_as(largest)), -scale, approx=True, fp32_dest=False
        )
        whole = fpu.row_sum(sums, hifi2).float() + weight.float()
        cut = (whole.view(torch.int32) & -0x10000).view(torch.float32)
        inverse = bf16(sfpu_steps.reciprocal(cut, approx=True, fp32_dest=False))
        made.append(bf16(fpu.multiply(total, inverse, hifi2)))
    assert torch.equal(api.to_torch(out), torch.cat(made, 2))


@pytest.mark.parametrize("arithmetic", [Mode.EXACT], indirect=True)
def test_a_decode_sink_joins_last(put, arithmetic):
    """One core's sums: scaled to a maximum that covers the sink, then its weight is added; one chunk, bit for bit."""
    hifi2, scale = Math(api.MathFidelity.HiFi2, False), 0.125
    q, k, v = random(1, 1, 8, 64), random(1, 1, 32, 64), random(1, 1, 32, 64)
    sink = torch.linspace(-4, 40, 8).bfloat16().view(1, 1, 8, 1)
    out = DECODE(
        *map(put, (q, k, v)), cur_pos=[31], attention_sink=put(F.pad(sink.view(8, 1), (0, 31))), scale=scale
    )

    def weight(x, largest):
        fall = fpu.subtract(x, largest)
        return sfpu_steps.correction(fall, scale, approx=True, fp32_dest=False).bfloat16()

    scores = grouped_matmul(q.view(1, 1, 8, 64), k[0].transpose(1, 2), hifi2).bfloat16()
    largest = scores.amax(-1, keepdim=True)
    below = fpu.subtract(scores, largest).bfloat16()
    weights = sfpu.exp(below, fp32_dest=False, approx=True, scale=scale).bfloat16().relu()
    sums = fpu.row_sum(weights, hifi2).bfloat16()
    total = grouped_matmul(weights, v[0], hifi2).bfloat16()
    higher = torch.maximum(largest, sink)
    alpha = weight(largest, higher)
    sums = fpu.multiply(sums, alpha, hifi2).bfloat16()
    sums = fpu.add(sums, weight(sink, higher)).bfloat16()
    total = fpu.multiply(total, alpha, hifi2).bfloat16()
    inverse = bf16(sfpu_steps.reciprocal(sums, approx=True, fp32_dest=False))
    expected = fpu.multiply(total, inverse, hifi2).bfloat16()
    assert torch.equal(api.to_torch(out).view(-1), expected.view(-1))


def test_refused_sinks_and_windows_say_why(put):
    q, k = put(random(1, 4, 64, 64)), put(random(1, 2, 64, 64))
    step = Step(put)
    in_l1 = put(torch.zeros(1, 4, 1, 1), memory=api.L1_MEMORY_CONFIG)
    for call, said in (
        (lambda: SDPA(q, k, k, attention_sink=put(torch.zeros(1, 2, 1, 1))), "a value a query head"),
        (lambda: SDPA(q, k, k, attention_sink=put(torch.zeros(1, 4, 1, 1), api.float32)), "must be BFLOAT16"),
        (lambda: SDPA(q, k, k, attention_sink=in_l1), "must be in DRAM"),
        (
            lambda: SDPA(
                q,
                k,
                k,
                attention_sink=put(torch.zeros(1, 4, 1, 1), api.bfloat8_b),
                compute_kernel_config=FULL,
            ),
            "numbers that nobody knows",
        ),
        (lambda: step.contiguous(attention_sink=put(torch.zeros(1, 1, 8, 32))), "2 dimensions"),
        (lambda: step.contiguous(attention_sink=put(torch.zeros(64, 32))), "first column"),
        (lambda: step.paged(attention_sink=put(torch.zeros(8, 32), api.bfloat8_b)), "must be BFLOAT16"),
    ):
        with pytest.raises(DeviceError, match=said):
            call()
    with pytest.raises(TypeError, match="sliding_window_size"):
        SDPA(q, k, k, sliding_window_size=-1)
