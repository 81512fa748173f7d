"""What the forward pass is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tt_llm.linear import Linear
from tt_llm.modules.decoder import Decoder
from tt_llm.modules.norm import RMSNorm


def reachable(root: Any) -> Iterator[Any]:
    """Every object of ours that hangs below `root`, and whatever hangs directly on those."""
    seen, waiting = set(), [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif type(item).__module__.startswith("tt_llm"):
            waiting.extend(vars(item).values())


def test_no_torch_module_takes_part(tiny: Any, load: Any) -> None:
    """Below a generator's model and cache there is no torch.nn.Module and no host tensor: the device computes all."""
    generator = load(tiny("mha"))
    parts = list(reachable([generator.model, generator.kv_cache]))
    assert not [part for part in parts if isinstance(part, torch.nn.Module | torch.Tensor)]
    kinds = [type(part) for part in parts]
    assert (kinds.count(Decoder), kinds.count(Linear), kinds.count(RMSNorm)) == (2, 2 * 5, 2 * 2 + 1)


def test_n_layers_loads_the_first_layers(tiny: Any, mesh_device: Any) -> None:
    """A model cut to its first layer gives what Hugging Face gives with the others taken out."""
    import copy

    import tt_llm

    model = tiny("mha")
    reference = copy.deepcopy(model.reference)
    reference.model.layers = reference.model.layers[:1]
    tokens = model.prompt(20)
    generator = tt_llm.load(str(model.folder), mesh_device, "accuracy", 1, 128, n_layers=1)
    with torch.inference_mode():
        expected = reference(tokens).logits
    actual = generator.prefill_forward(tokens, all_logits=True)
    assert float((actual - expected).norm() / expected.norm()) < 0.03
    assert float((actual - model.logits(tokens)).norm() / expected.norm()) > 0.3
