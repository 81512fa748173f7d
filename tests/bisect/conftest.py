"""A small random Llama, its reference, and a bisection of it on one device or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:  # pytest may read this file before the plugin has put a target in place of ttnn
    from harness.bisect.bisection import Bisection

PROMPT = 70  # two blocks of the cache and a part of a third; padded to 128

Bisect = Callable[..., "Bisection"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, save_llama: Callable[..., Path]) -> Path:
    """Two layers, four query heads of two key-value heads."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "four-heads",
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=False,
    )


@pytest.fixture(scope="session")
def meshes() -> Iterator[Callable[[tuple[int, int]], Any]]:
    """meshes((1, 2)) opens a mesh once."""
    import ttnn

    from tt_llm.mesh import open_mesh

    opened: dict[tuple[int, int], Any] = {}

    def mesh(shape: tuple[int, int]) -> Any:
        if shape not in opened:
            opened[shape] = open_mesh(shape)
        return opened[shape]

    yield mesh
    for device in opened.values():
        ttnn.close_mesh_device(device)


@pytest.fixture(scope="session")
def bisect_model(model: Path, meshes: Callable[[tuple[int, int]], Any]) -> Bisect:
    """bisect_model(mesh=(1, 1), precision="accuracy"): loads the model and bisects it whole."""
    import tt_llm
    from goldens import Reference
    from harness.bisect.bisection import bisect, load
    from harness.bisect.subjects import USERS, WholeModel

    reference = Reference(model)
    tokens = torch.randint(0, 256, (USERS, PROMPT + 1), generator=torch.Generator().manual_seed(0))

    def run(mesh: tuple[int, int] = (1, 1), precision: str = "accuracy") -> Bisection:
        generator, weights = load(lambda: tt_llm.load(str(model), meshes(mesh), precision, USERS, PROMPT + 1))
        return bisect(generator, weights, WholeModel(generator, reference, tokens), lambda line: None)

    return run
