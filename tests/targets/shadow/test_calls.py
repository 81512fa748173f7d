"""What values the results of calls have: the emulator's, a golden's, unknown; views, writes in place, and the user's errors."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]

X = "a = torch.randn(1, 1, 32, 64).bfloat16().float()\nx = tile(a)\n"


def test_an_op_of_the_emulators_gives_its_bits(shadow: Run) -> None:
    """By name, by operator and by indexing; nothing disagrees with the real ttnn."""
    shadow(
        X
        + """
assert torch.equal(back(x), a)
assert torch.equal(back(x + x), 2 * a)
assert torch.equal(back(x[:, :, 3:5, :]), a[:, :, 3:5, :])
assert torch.equal(back(ttnn.permute(x, (0, 1, 3, 2))), a.permute(0, 1, 3, 2))
assert {source for _, source in coverage().counts} == {Source.EXACT}
assert not coverage().findings, coverage().findings
"""
    )


def test_an_op_that_the_emulator_lacks_is_its_golden_rounded_once(shadow: Run) -> None:
    """fp32, then one rounding into the result's format; what is made of it is no better, and the reason is kept."""
    shadow(
        X
        + """
y = ttnn.hardswish(x)
assert torch.equal(back(y), packed(torch.nn.functional.hardswish(a)))
assert source_of("ttnn.hardswish") == [Source.GOLDEN]
assert coverage().reasons["ttnn.hardswish", Source.GOLDEN] == "the emulator has no such op"
coverage().weakest_read = None
back(x + x)
assert coverage().weakest_read is Source.EXACT
back(y + y)
assert coverage().weakest_read is Source.GOLDEN
"""
    )


def test_what_nothing_knows_is_nan_and_named(shadow: Run) -> None:
    """An op without a golden, and a tensor that no op seen here made; what is computed with them is NaN too."""
    shadow(
        X
        + """
assert ttnn.experimental.rotate_half.golden_function is None
y = ttnn.experimental.rotate_half(x)
assert back(y).isnan().all()
assert back(y + x).isnan().all()
assert source_of("ttnn.experimental.rotate_half") == [Source.NONE]
coverage().weakest_read = None
constructed = ttnn.Tensor(a.bfloat16(), ttnn.bfloat16, device=mesh, layout=ttnn.TILE_LAYOUT)
assert back(constructed).isnan().all()
assert coverage().weakest_read is Source.NONE
assert ("ttnn.Tensor", Source.NONE) in coverage().reasons
"""
    )


def test_views_and_writes_in_place_follow_the_buffer(shadow: Run) -> None:
    """A write through one name is seen through the other; of ops the emulator has, and of those it has not."""
    shadow(
        X
        + """
view = ttnn.reshape(x, (32, 64))
assert view.buffer_unique_id() == x.buffer_unique_id()
assert torch.equal(back(view), a.reshape(32, 64))
ttnn.multiply_(x, 2.0)
assert torch.equal(back(x), 2 * a) and torch.equal(back(view), 2 * a.reshape(32, 64))
out = tile(torch.zeros(1, 1, 32, 64))
held = ttnn.reshape(out, (32, 64))
ttnn.hardswish(x, output_tensor=out)
assert torch.equal(back(held), packed(torch.nn.functional.hardswish(2 * a)).reshape(32, 64))
same = ttnn.to_layout(x, ttnn.TILE_LAYOUT)
assert torch.equal(back(same), 2 * a)
"""
    )


def test_only_the_real_ttnn_raises(shadow: Run) -> None:
    """What it refuses it refuses in its own words; what the emulator refuses falls back, and is a finding."""
    shadow(
        X
        + """
from harness.emulator.runtime.dispatch import CALLS
def refusing(*args, **kwargs):
    raise RuntimeError("ttnn.silu: not today")
CALLS["ttnn.silu"] = refusing
assert torch.allclose(back(ttnn.silu(x)), torch.nn.functional.silu(a), atol=0.02)
assert coverage().findings == {"ttnn.silu: ttnn takes it, the emulator does not: ttnn.silu: not today": 1}
assert coverage().reasons["ttnn.silu", Source.GOLDEN] == "RuntimeError: ttnn.silu: not today"
before = back(x)
try:
    ttnn.matmul(x, x)
except RuntimeError as error:
    assert "The width of the first tensor must be equal to the height of the second" in str(error)
else:
    raise AssertionError("taken")
assert torch.equal(back(x), before)
"""
    )


def test_a_wrong_result_of_the_emulators_is_found(shadow: Run) -> None:
    """Another shape or format: the golden stands in. Another memory config: noted, and the real one holds."""
    shadow(
        X
        + """
from harness.emulator.runtime.dispatch import CALLS
relu, gelu, tanh = (CALLS[f"ttnn.{name}"] for name in ("relu", "gelu", "tanh"))
import harness.emulator.api as api
CALLS["ttnn.relu"] = lambda x, **_: relu(api.reshape(x, (1, 1, 64, 32)))
CALLS["ttnn.tanh"] = lambda x, **_: tanh(x, memory_config=api.L1_MEMORY_CONFIG)
assert torch.equal(back(ttnn.relu(x)), a.relu())
assert source_of("ttnn.relu") == [Source.GOLDEN]
y = ttnn.tanh(x)
assert source_of("ttnn.tanh") == [Source.EXACT]
assert torch.equal(back(ttnn.add(y, 0.0)), back(y))
found = sorted(coverage().findings)
assert found[0].startswith("ttnn.relu: the emulator gives [1, 1, 64, 32]"), found
assert found[1].startswith("ttnn.tanh: the emulator gives Layout.TILE MemoryConfig"), found
assert {op: calls for op, (_, calls) in coverage().conflicts.items()} == {"ttnn.relu": 1, "ttnn.tanh": 1}
"""
    )


def test_memory_is_given_back(shadow: Run) -> None:
    """Values go with their buffer: deallocated, dropped by the last name, or kept by a view."""
    shadow(
        X
        + """
import gc
calls = ttnn.decorators.FastOperation.__call__.__closure__[0].cell_contents
cells = calls.values.cells
uid = x.buffer_unique_id()
view = ttnn.reshape(x, (32, 64))
ttnn.deallocate(x, force=False)
assert uid in cells and torch.equal(back(view), a.reshape(32, 64))
ttnn.deallocate(view)
assert uid not in cells
try:
    ttnn.add(view, view)
except RuntimeError:
    pass
else:
    raise AssertionError("used after it was freed")
for _ in range(600):
    y = ttnn.relu(tile(a))
assert len(cells) < 300, len(cells)
"""
    )


def test_a_view_of_pages_is_exact_or_unknown(shadow: Run) -> None:
    """`experimental.view` moves nothing: where that gives other values than a reshape, nobody says which."""
    shadow(
        X
        + """
y = ttnn.experimental.view(x, (32, 64))
assert y.buffer_unique_id() == x.buffer_unique_id()
assert torch.equal(back(y), a.reshape(32, 64))
assert source_of("ttnn.experimental.view") == [Source.EXACT]
assert back(ttnn.experimental.view(x, (64, 32))).isnan().all()
"""
    )
