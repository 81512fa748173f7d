"""`@pytest.mark.tt_golden(...)`: which goldens a test runs against, one test per golden."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from goldens import FIRST_PROMPTS, N_WINDOWS, GoldenError, GoldenSpec

MARKER = (
    "tt_golden(module, *, layer=None, phase='prefill', seq_len=0, batch=1, ...): run the test once per golden; "
    "any argument may be a list, a negative layer counts from the last"
)
FIXTURE = "golden_spec"
BATCHES = {"generate": FIRST_PROMPTS, "text": N_WINDOWS}  # where a marker gives none


def specs_of(markers: Iterable[pytest.Mark], n_layers: int) -> list[GoldenSpec]:
    """The goldens a test's markers name, each once. Raises GoldenError for one that cannot be."""
    return list(dict.fromkeys(spec for marker in markers for spec in _combinations(marker, n_layers)))


def _combinations(marker: pytest.Mark, n_layers: int) -> list[GoldenSpec]:
    arguments: dict[str, Any] = dict(marker.kwargs)
    if len(marker.args) != 1:
        raise GoldenError(f"tt_golden{marker.args}: give the module first and alone, the rest by name")
    unknown = set(arguments) - {field.name for field in dataclasses.fields(GoldenSpec)}
    if unknown:
        raise GoldenError(f"tt_golden: no argument {', '.join(sorted(unknown))}; {MARKER}")
    arguments["module"] = marker.args[0]
    choices = [[(name, value) for value in _listed(values)] for name, values in arguments.items()]
    specs = []
    for combination in itertools.product(*choices):
        fields = dict(combination)
        if fields["module"] in BATCHES:
            fields.setdefault("batch", BATCHES[fields["module"]])
        layer = fields.get("layer")
        if layer is not None and not -n_layers <= layer < n_layers:
            continue  # a test of layer 14 has nothing to say of a model with 2
        if layer is not None:
            fields["layer"] = layer % n_layers
        specs.append(GoldenSpec(**fields))
    return specs


def _listed(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list | tuple) else [values]
