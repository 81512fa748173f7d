"""RoPE with tables shorter than the sequence, equal to it and longer, and with head dims of any width."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from harness.emulator import DeviceError, api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode

E = api.experimental
LLAMA, HF, PLAIN = E.rotary_embedding_llama, E.rotary_embedding_hf, E.rotary_embedding


@pytest.fixture(autouse=True, params=list(Mode), ids=lambda m: m.value)
def arithmetic(request):
    with mode.using(request.param):
        yield


@pytest.fixture
def turn(put):
    """The matrix that turns pairs of columns, (a, b) into (-b, a)."""
    matrix = torch.zeros(1, 1, 32, 32)
    even = torch.arange(0, 32, 2)
    matrix[..., even, even + 1], matrix[..., even + 1, even] = 1, -1
    return put(matrix)


def tables(rows, width):
    angles = torch.rand(1, 1, rows, width) * 6
    return angles.cos().bfloat16(), angles.sin().bfloat16()


def close(got, want):
    error = float((got.float() - want).norm() / want.norm())
    assert error < 0.01, error


@pytest.mark.parametrize("width", [16, 64, 80, 256])
@pytest.mark.parametrize("covered", [32, 40, 64, 128, 200])
def test_rows_that_the_llama_tables_do_not_reach_become_zero(put, turn, width, covered):
    """ttnn takes a table of any length: what it has no angle for is zero, rows of the last tile's padding too."""
    x, (cos, sin) = torch.randn(2, 3, 128, width).bfloat16(), tables(covered, width)
    out = api.to_torch(LLAMA(put(x), put(cos), put(sin), turn))
    assert out.shape == x.shape
    cos, sin = (F.pad(t, (0, 0, 0, max(0, 128 - covered)))[:, :, :128].float() for t in (cos, sin))
    turned = torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2).float()
    close(out, x.float() * cos + turned * sin)
    assert not out[:, :, min(covered, 128) :].any()


@pytest.mark.parametrize("rows", [32, 50, 64])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_rotary_embedding_turns_halves(put, rows, width):
    """As rotary_embedding_hf, bit for bit, with whole tiles of rows; or all rows at one token's angle."""
    x, (cos, sin) = torch.randn(2, 3, rows, width).bfloat16(), tables(64, width)
    given = put(x), put(cos), put(sin)
    out, same = api.to_torch(PLAIN(*given)), api.to_torch(HF(*given))
    assert out.shape == (2, 3, -(-rows // 32) * 32, width)
    assert torch.equal(out[:, :, :rows], same)
    assert not out[:, :, rows:].any()
    x = x[:1]
    at = api.to_torch(PLAIN(put(x), *given[1:], 63))[:, :, :rows]
    first, second = x.float().chunk(2, -1)
    close(at, x.float() * cos[:, :, 63:] + torch.cat((-second, first), -1) * sin[:, :, 63:])


def test_what_ttnn_refuses_of_tables_is_refused(put, turn):
    """Tables of other heads, batches or widths, and shorter ones where the op asks for all; head dims without whole halves."""

    def call(op, shape, table, *more):
        return lambda: op(*(put(torch.zeros(s)) for s in (shape, table, table)), *more)

    x = (1, 4, 128, 64)
    for refused, said in (
        (call(LLAMA, x, (1, 2, 128, 64), turn), "1 or 4 heads"),
        (call(LLAMA, (2, 4, 128, 64), (2, 1, 128, 64), turn), "1 or 4 heads"),
        (call(LLAMA, x, (1, 1, 128, 32), turn), "head dim 64"),
        (call(LLAMA, x, (128, 64), turn), "4 dimensions"),
        (call(LLAMA, (1, 4, 32, 512), (1, 1, 32, 512), turn), "at most 256"),
        (call(LLAMA, x, (1, 1, 128, 64), put(torch.zeros(32, 32))), "trans_mat must have 4"),
        (call(HF, x, (1, 1, 64, 64)), "64 positions, the input 128"),
        (call(HF, x, (1, 4, 128, 64)), "must be"),
        (call(HF, (1, 4, 128, 96), (1, 1, 128, 96)), "multiple of 64"),
        (call(PLAIN, x, (1, 1, 64, 64)), "64 positions, the input 128"),
        (call(PLAIN, x, (1, 1, 128, 64), 128), "none at token_index 128"),
        (call(PLAIN, (2, 4, 32, 64), (1, 1, 128, 64), 5), "must be one token"),
        (call(PLAIN, (1, 4, 128, 80), (1, 1, 128, 80)), "multiple of 64"),
    ):
        with pytest.raises(DeviceError, match=said):
            refused()
