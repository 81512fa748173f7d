"""`sampling` against a plain reading of the kernel, the random generator against its rules, `manual_seed`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.emulator import DeviceError
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.arithmetic.sfpu import prng

W = 2**32


def spelled_out(seed: int, lane: int) -> int:
    """The digit a lane has in the first row: the kernel's instructions one after the other."""
    lane_id = (2 * lane - 151) % W
    five = (lane_id << 20) % W ^ lane_id
    salt = (five << 5) % W ^ five
    x = (seed + salt) % W
    zero = x >> 16
    zero ^= x
    one = (zero << 10) % W
    one = (one + zero) % W
    zero = one >> 6
    zero ^= one
    one = (zero << 13) % W
    one = (one + zero) % W
    zero = one >> 16
    zero ^= one
    number = np.float32(zero & 0x7FFFFFFF) * np.float32(2.0**-23)  # times 256 / 2**31
    return int(np.floor(number))


def stepped(bits: list[int]) -> list[int]:
    """One step of the register, bit 0 first."""
    return [*bits[1:], 1 - (bits[0] + bits[1] + bits[21] + bits[31]) % 2]


@pytest.mark.parametrize("seed", [0, 1, 77, 123456789, 0x80200003])
def test_the_generator_is_the_kernels(seed):
    """Digits and the register after a tile agree with the instructions and the bits spelled out."""
    for lane in (0, 1, 31):
        assert int(prng.first_of_tile(seed, lane) * 256) == spelled_out(seed, lane)
    bits = [seed >> i & 1 for i in range(32)]
    for _ in range(36):
        bits = stepped(bits)
    assert prng.advanced(seed, prng.DRAWS_OF_TILE) == sum(bit << i for i, bit in enumerate(bits))
    assert prng.seeded(W - 1) == W - 2


@pytest.fixture
def drawn(ttnn, device, put):
    """drawn(values [users, W], k, p, temperature): tokens, where a value's index is its place plus 1000."""

    def draw(values, k, p=1.0, temperature=1.0, **keywords):
        users, width = values.shape
        rows = ttnn.ROW_MAJOR_LAYOUT

        def each(x, dtype):
            return put(torch.as_tensor(x, dtype=torch.float32).expand(users), dtype, rows)

        tokens = ttnn.sampling(
            put(values[None, None]),
            put(
                torch.arange(1000, 1000 + width, dtype=torch.int32).expand(1, 1, users, width),
                ttnn.int32,
                rows,
            ),
            each(k, ttnn.uint32),
            each(p, ttnn.bfloat16),
            each(1 / temperature, ttnn.bfloat16),
            **keywords,
        )
        return (ttnn.to_torch(tokens).flatten().long() - 1000).tolist()

    return draw


def test_one_candidate_is_the_largest(ttnn, drawn):
    """With k = 1, or p = 0, the draw is the argmax; equal ones give the first."""
    for chosen in Mode:
        with mode.using(chosen):
            values = torch.randn(32, 128).round(decimals=1)
            assert drawn(values, 1) == values.bfloat16().float().argmax(-1).tolist()
            assert drawn(values, 20, p=0.0) == values.bfloat16().float().argmax(-1).tolist()


@pytest.mark.parametrize("chosen", list(Mode), ids=lambda m: m.value)
def test_draws_follow_probabilities(chosen, drawn):
    """Over many seeds the shares are the softmax of the k largest at that temperature, cut at p."""
    logits = torch.tensor([2.0, 1.0, 0.0, 3.0] + [-20.0] * 60)
    counts = torch.zeros(64)
    with mode.using(chosen):
        for seed in range(1, 700):
            counts[drawn(logits[None], 3, p=0.93, temperature=0.5, seed=seed * 7919)[0]] += 1
    expected = torch.tensor([6.0, 4.0]).softmax(0)  # the third lies beyond p
    assert counts[2:3].sum() == counts[4:].sum() == 0
    shares = torch.tensor([counts[3], counts[0], counts[1]]) / counts.sum()
    whole = torch.tensor([6.0, 4.0, 2.0]).softmax(0)
    assert whole[0] < 0.93 < whole[:2].sum()
    assert torch.allclose(shares[:2], expected, atol=0.05), shares
    assert counts[1] == 0


def test_a_seed_is_a_draw_and_cores_go_on(ttnn, device, drawn):
    """The same seed gives the same tokens for all users alike; without one each call goes on; manual_seed starts again."""
    flat = torch.zeros(4, 64)
    assert len(set(drawn(flat, 32, seed=9))) == 1
    assert drawn(flat, 32, seed=9) == drawn(flat, 32, seed=9)
    first, second = drawn(flat, 32), drawn(flat, 32)
    third = drawn(flat, 32)
    assert len({tuple(first), tuple(second), tuple(third)}) > 1
    ttnn.manual_seed(9, device=device)
    assert drawn(flat, 32) == drawn(flat, 32, seed=9)


def test_users_have_seeds_of_their_own(ttnn, device, put, drawn):
    """manual_seed gives each user_id's core its seed; 2**32 - 1 leaves a core alone."""
    flat, rows = torch.zeros(4, 64), ttnn.ROW_MAJOR_LAYOUT
    alone = [drawn(flat, 32, seed=seed)[0] for seed in (5, 600, 70000)]
    ttnn.manual_seed(5, device=device)
    seeds = put(torch.tensor([W - 1, 70000, 600]), ttnn.uint32, rows)
    users = put(torch.tensor([0, 2, 1]), ttnn.uint32, rows)
    ttnn.manual_seed(seeds, user_ids=users)
    assert drawn(flat, 32)[:3] == alone
    grid = ttnn.CoreRangeSet([ttnn.CoreRange((2, 0), (5, 0))])
    ttnn.manual_seed(seeds, user_ids=users, sub_core_grids=grid)
    assert drawn(flat, 32, sub_core_grids=grid)[1:3] == alone[1:]


def test_it_writes_to_a_tensor_there_is(ttnn, put, drawn):
    """output_tensor is filled in place."""
    target = put(torch.zeros(1, 1, 1, 32, dtype=torch.int32), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
    values = torch.randn(32, 64)
    assert drawn(values, 1, output_tensor=target) == values.bfloat16().float().argmax(-1).tolist()
    assert (ttnn.to_torch(target).flatten() - 1000).tolist() == values.bfloat16().float().argmax(-1).tolist()


def test_k_outside_its_range_is_refused(drawn):
    with pytest.raises(DeviceError, match="k must be from 1 to 32"):
        drawn(torch.randn(32, 64), 33)


@pytest.mark.parametrize("seed", [3, 2024])
def test_exact_probabilities_are_the_kernels_steps(seed, drawn):
    """Against the steps on one user, written out: bfloat16 after each, sums in float32, two digits of the generator."""
    from harness.emulator.arithmetic import fpu
    from harness.emulator.arithmetic.fidelity import Math
    from harness.emulator.arithmetic.sfpu import functions, lanes
    from harness.emulator.ops.reduction.softmax_steps import exp_approx
    from harness.emulator.spec.types import MathFidelity

    def half_away(x):
        return ((x.view(torch.int32) + 0x8000) & -65536).view(torch.float32)

    torch.manual_seed(seed)
    values, k, p, temperature = torch.randn(3, 256) * 2, 11, 0.75, 0.8
    with mode.using(Mode.EXACT):
        tokens = drawn(values, k, p, temperature, seed=seed)
        math = Math(MathFidelity.HiFi4, False)
        for user in range(3):
            row = values[user].bfloat16().float()
            order = row.argsort(descending=True, stable=True)
            scaled = fpu.multiply(row[order[:k]].bfloat16(), torch.tensor(1 / temperature).bfloat16(), math)
            scaled = half_away(scaled)
            raised = lanes.store(exp_approx(fpu.subtract(scaled, scaled.max())), fp32_dest=False)
            raised = half_away(raised).bfloat16()
            least = half_away(lanes.store(exp_approx(torch.tensor([-torch.inf])), fp32_dest=False)).bfloat16()
            raised = torch.cat([raised, least.expand(32 - k)])  # those that the mask put at -Inf
            total = half_away(fpu.row_sum(raised[None], math))[0]
            inverse = half_away(functions.reciprocal(total, fp32_dest=False)).bfloat16()
            weights = half_away(fpu.multiply(raised, inverse, math))[:k].tolist()
            mass, count = np.float32(0), 0
            while count < k:
                mass = np.float32(mass + np.float32(weights[count]))
                count += 1
                if mass > np.float32(p):
                    break
            high, low = spelled_out(seed, 0), spelled_out(seed, 1)
            share, place = np.float32(0), 0
            for place in range(count):
                share = np.float32(share + np.float32(np.float32(weights[place]) / mass))
                if share > np.float32((high * 256 + low) / 65536):
                    break
            else:
                place = 0
            assert tokens[user] == order[place]
