"""Mode fast multiplies on whatever units a CPU has; what comes out may differ in the order of the sum alone."""

from __future__ import annotations

import pytest
import torch

from harness.emulator import kernels
from harness.emulator.arithmetic import products
from harness.emulator.arithmetic.products import Numbers
from harness.emulator.ops.attention import core
from tests.emulator.arithmetic.test_fpu import INSTRUCTION_SETS, library_for

SHAPES = [((33, 100), (100, 37)), ((2, 5, 64), (2, 64, 40)), ((1, 1, 32, 576), (576, 96))]


@pytest.fixture(params=["bf16 units", "float32 units", "no compiler"])
def path(request, monkeypatch):
    """Each way that a product can go on this machine."""
    if request.param == "bf16 units" and not products.on_bf16_units():
        pytest.skip("this CPU has no AMX, or may not use it: products on bf16 units were not checked")
    monkeypatch.setattr(products, "on_bf16_units", lambda: request.param == "bf16 units")
    if request.param == "no compiler":
        monkeypatch.setattr(kernels, "load", lambda: None)
    return request.param


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def sum_error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The most that a float32 sum of these products can be off, in any order."""
    return (a.double().abs() @ b.double().abs()) * a.shape[-1] * 2.0**-24


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("numbers", Numbers)
def test_every_path_is_one_float32_sum_rounded_once(shapes, numbers, path):
    a, b = normal(*shapes[0]), normal(*shapes[1], seed=1)
    if numbers is Numbers.TF32:
        a = a.float() * (1 + 2.0**-10)
    result = products.multiply(products.form(a, numbers), products.form(b, numbers, weight=True), numbers)
    assert result.dtype is (torch.bfloat16 if numbers is Numbers.BFLOAT16 else torch.float32)
    exact = a.double() @ b.double()
    rounding = exact.abs() * 2.0**-8 if numbers is Numbers.BFLOAT16 else 0
    assert bool(((result.double() - exact).abs() <= sum_error(a, b) + rounding).all())


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize("numbers", Numbers)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_compiled_product_is_the_sum_of_its_row_alone(march, numbers, transposed):
    """Within float32's rounding of the exact sum, and the same bits whatever rows are beside it."""
    library, narrow = library_for(march), numbers is Numbers.BFLOAT16
    a, b = normal(3, 70, 577).float(), normal(577, 75, seed=1)
    b = b.T.contiguous().T if transposed else b
    result = products._of_float(library, a, b, narrow=narrow)
    exact = a.double() @ b.double()
    rounding = exact.abs() * 2.0**-8 if narrow else 0
    assert bool(((result.double() - exact).abs() <= sum_error(a, b) + rounding).all())
    for rows in (a[1, 7:8], a[:, 5:40], a[2]):
        place = result[1, 7:8] if rows.shape[0] == 1 else result[:, 5:40] if rows.dim() == 3 else result[2]
        assert torch.equal(products._of_float(library, rows, b, narrow=narrow), place)


@pytest.mark.parametrize("numbers", [Numbers.BFLOAT16, Numbers.WIDE])
@pytest.mark.parametrize("k", [31, 576])
def test_an_element_has_the_same_bits_whatever_is_beside_it(numbers, k, path):
    """A row alone, and a column on a device that has few of them; a library sums in an order of its own for each shape."""
    if path == "no compiler":
        return
    a, b = (products.form(x, numbers) for x in (normal(70, k), normal(k, 200, seed=1)))
    result = products.multiply(a, b, numbers)
    for row in (0, 31, 32, 69):
        assert torch.equal(products.multiply(a[row : row + 1], b, numbers), result[row : row + 1])
    assert torch.equal(products.multiply(a[:33], b, numbers), result[:33])
    for columns in (slice(0, 25), slice(25, 50), slice(96, 200)):
        assert torch.equal(products.multiply(a, b[:, columns], numbers), result[:, columns])


def test_bf16_units_keep_infinities_and_nan_to_their_own_elements(path):
    a, b = normal(33, 40), normal(40, 33, seed=1)
    a[3, 5], b[7, 32] = torch.inf, torch.nan
    numbers = Numbers.BFLOAT16
    result = products.multiply(products.form(a, numbers), products.form(b, numbers, weight=True), numbers)
    finite = torch.ones(33, 33, dtype=torch.bool)
    finite[3] = finite[:, 32] = False
    assert torch.equal(result.isfinite(), finite)
    assert bool(result[:, 32].isnan().all())
    assert bool(result[3, :32].isinf().all())


def masks(batch: int, heads: int, rows: int, span: int) -> dict[str, torch.Tensor | None]:
    """Every kind of mask that the ops hand over."""
    beyond = torch.zeros(batch, 1, rows, span).bfloat16()
    beyond[..., span // 2 :] = -torch.inf
    nothing = torch.zeros(1, 1, rows, span).bfloat16()
    nothing[:, :, 0] = -torch.inf  # a row that sees nothing is NaN
    return {
        "none": None,
        "lengths": beyond,
        "additive": 3 * normal(batch, heads, rows, span, seed=3),
        "empty row": nothing,
    }


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", ["none", "lengths", "additive", "empty row", "causal"])
@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "rows", "span", "width"),
    [(1, 9, 3, 150, 150, 64), (3, 2, 2, 3, 77, 32), (2, 4, 1, 1, 33, 80), (1, 2, 2, 131, 131, 128)],
)
def test_compiled_attention_equals_torch(batch, heads, kv_heads, rows, span, width, kind, march):
    """But for the last place of float32 sums, which may turn a rounding to bfloat16: one place of scores and weights."""
    if kind == "causal" and rows != span:
        return
    q = normal(batch, heads, rows, width)
    k, v = (normal(batch, kv_heads, span, width, seed=seed) for seed in (1, 2))
    mask = None if kind == "causal" else masks(batch, heads, rows, span)[kind]
    call = q, k, v, mask, kind == "causal", 0.3
    expected = core._in_torch(*call).float()
    result = core._in_library(library_for(march), *call).float()
    assert torch.equal(result.isnan(), expected.isnan())
    if kind == "empty row":
        assert bool(expected[:, :, 0].isnan().all())
    assert bool(((result - expected).abs().nan_to_num() <= 2.0**-6).all())
    assert (
        float((result == expected).float().nan_to_num().mean()) + float(expected.isnan().float().mean())
        > 0.98
    )


@pytest.mark.parametrize("value", ["-200", "-87.5", "-86.9", "-1e-3", "0"])
def test_weights_of_far_scores_are_small_or_nothing(value):
    """Two keys, the second's score lower by that much: its weight is exp's, to bfloat16's half place."""
    q, k = torch.ones(1, 1, 1, 32).bfloat16(), torch.zeros(1, 1, 2, 32).bfloat16()
    mask = torch.tensor([0.0, float(value)]).bfloat16().view(1, 1, 1, 2)
    v = torch.tensor([0.0, 1.0]).bfloat16().view(1, 1, 2, 1).expand(1, 1, 2, 32)
    weight = core._in_library(library_for(), q, k, v, mask, False, 1.0)[0, 0, 0, 0].double()
    e = torch.exp(mask[..., 1].double())
    assert abs(float(weight) - float(e / (1 + e))) <= 2.0**-8 * float(e) + 2.0**-125


@pytest.mark.parametrize("march", INSTRUCTION_SETS)
@pytest.mark.parametrize(("width", "block", "pages"), [(64, 32, 5), (20, 16, 3), (7, 32, 1)])
def test_attention_from_pages_equals_attention_of_what_was_gathered(width, block, pages, march):
    """Keys and values are found page by page, in any order, also those that users share: the same bits as without pages."""
    users, heads, blocks = 3, 2, 11
    keys, values = (normal(blocks, heads, block, width, seed=seed) for seed in (1, 2))
    numbers = torch.randint(blocks, (users, 1, pages), generator=torch.Generator().manual_seed(3))
    where = core.Pages(numbers * heads + torch.arange(heads)[:, None], block)
    mask = torch.zeros(users, 1, 1, pages * block).bfloat16()
    mask[1, ..., -5:] = -torch.inf
    queries = normal(users, heads, 4, width)
    gathered = [torch.cat([cache[numbers[:, 0, i]] for i in range(pages)], 2) for cache in (keys, values)]
    library = library_for(march)
    expected = core._in_library(library, queries, *gathered, mask, False, 0.3)
    assert torch.equal(core._in_library(library, queries, keys, values, mask, False, 0.3, where), expected)
    assert all(
        torch.equal(where.gathered(cache), part) for cache, part in zip((keys, values), gathered, strict=True)
    )
