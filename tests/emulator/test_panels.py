from __future__ import annotations

import pytest
import torch

from harness.emulator import accumulate, kernels


@pytest.mark.parametrize("shape", [(64, 32), (33, 70), (1, 1), (5, 2, 31, 40), (3, 96, 64)])
@pytest.mark.parametrize("transposed", [False, True])
def test_compiled_panels_equal_those_of_torch(monkeypatch, shape, transposed):
    """Weights of any size and batch, as they lie or as a transposed view, are laid out as the rules in torch lay them."""
    if kernels.load() is None:
        pytest.skip("no C++ compiler: there is nothing to compare")
    x = torch.randn(shape).bfloat16()
    x = x.transpose(-1, -2) if transposed else x
    compiled = accumulate.panels_of(x)
    monkeypatch.setattr(kernels, "load", lambda: None)
    spelled = accumulate.panels_of(x)
    assert compiled.n == spelled.n
    assert torch.equal(compiled.panels, spelled.panels)
