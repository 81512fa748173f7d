"""What a planted mistake is, and how one gets into a model without its code being edited."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """A mistake people make in an LLM. Calling it plants it, until the patch is undone.

    `module` is where it lies, as the suites call modules; `mesh` and `precision` are the smallest it needs to show.
    """

    name: str
    module: str
    what: str  # a sentence
    plant: Plant
    mesh: str
    precision: str

    def __call__(self, patch: pytest.MonkeyPatch) -> None:
        """Plants it. A target must be in place."""
        self.plant(patch)


CATALOGUE: dict[str, Fault] = {}


def fault(module: str, *, mesh: str = "1x1", precision: str = "accuracy") -> Callable[[Plant], Fault]:
    """Puts a function that plants a mistake into the catalogue; its docstring says what the mistake is."""

    def register(plant: Plant) -> Fault:
        what = (plant.__doc__ or "").strip()
        fault = CATALOGUE[plant.__name__] = Fault(plant.__name__, module, what, plant, mesh, precision)
        return fault

    return register


def around(patch: pytest.MonkeyPatch, owner: Any, name: str, call: Callable[..., Any]) -> None:
    """From now on `owner.name(*args)` is `call(original, *args)`. Of a class's method the first argument is the object."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def planted(*args: Any, **kwargs: Any) -> Any:
        return call(original, *args, **kwargs)

    patch.setattr(owner, name, planted)


def scaled(tensor: Any, factor: float) -> Any:
    """A device tensor times a number, in its own place."""
    import ttnn

    return ttnn.multiply(tensor, factor, memory_config=tensor.memory_config())


def one_page_wider(table: Any) -> Any:
    """A page table with a page more a user, such that one position beyond the last is somewhere: in the last page again."""
    import ttnn

    users, pages = table.shape
    return ttnn.concat([table, ttnn.slice(table, (0, pages - 1), (users, pages))], dim=1)


def reweighted(patch: pytest.MonkeyPatch, change: Callable[[Callable[[str], Any], str], Any]) -> None:
    """From now on a checkpoint's tensor of a name is `change(read, name)`, where `read(name)` is the right one of any name."""
    from tt_llm.checkpoint import Checkpoint

    def taken(original: Any, self: Any, name: str) -> Any:
        return change(functools.partial(original, self), name)

    around(patch, Checkpoint, "__getitem__", taken)


def in_every_precision(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    """From now on every precision has these fields."""
    import dataclasses

    from tt_llm import precision

    changed = {name: dataclasses.replace(each, **changes) for name, each in precision.PRECISIONS.items()}
    patch.setattr(precision, "PRECISIONS", changed)
