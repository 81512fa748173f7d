"""Which goldens a test's markers name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from goldens import FIRST_PROMPTS, N_WINDOWS, GoldenError, GoldenSpec
from harness.run.goldens import specs_of


def specs(*args: Any, layers: int = 30, **kwargs: Any) -> list[GoldenSpec]:
    return specs_of([pytest.mark.tt_golden(*args, **kwargs).mark], layers)


def test_every_combination_of_listed_arguments_is_a_golden() -> None:
    """Lists and tuples, the module included, are multiplied out."""
    goldens = specs(["mlp", "mlp_norm"], layer=(0, 1), seq_len=[128, 1024])
    assert len(goldens) == 8
    assert {(spec.module, spec.layer, spec.seq_len) for spec in goldens} == set(
        itertools.product(("mlp", "mlp_norm"), (0, 1), (128, 1024))
    )


def test_negative_layers_count_from_the_last() -> None:
    """Layer -1 is the last layer, whichever the model has."""
    assert [spec.layer for spec in specs("mlp", layer=[-1, -2], seq_len=32)] == [29, 28]
    assert [spec.layer for spec in specs("mlp", layer=-1, seq_len=32, layers=2)] == [1]


def test_layers_the_model_lacks_are_dropped() -> None:
    """A test of layers 0, 14 and the last asks a model of two layers for its two."""
    assert [spec.layer for spec in specs("mlp", layer=[0, 14, -1], seq_len=32, layers=2)] == [0, 1]
    assert specs("mlp", layer=[14, -3], seq_len=32, layers=2) == []


def test_several_markers_are_joined_without_duplicates() -> None:
    """A golden that two markers, or two spellings of a layer, name is run once."""
    markers = [
        pytest.mark.tt_golden("mlp", layer=[0, 1], seq_len=128).mark,
        pytest.mark.tt_golden("mlp", layer=-1, seq_len=[128, 64]).mark,
    ]
    names = [spec.name for spec in specs_of(markers, 2)]
    assert names == [
        "mlp/layer0/prefill/S128/B1",
        "mlp/layer1/prefill/S128/B1",
        "mlp/layer1/prefill/S64/B1",
    ]


def test_texts_of_our_own_have_their_own_batch() -> None:
    """The batch of the generate and text goldens need not be given; more prompts may be asked for."""
    assert specs("generate", phase="decode", steps=4)[0].batch == FIRST_PROMPTS
    assert specs("generate", phase="decode", steps=4, batch=32)[0].batch == 32
    assert specs("text", seq_len=128)[0].batch == N_WINDOWS


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {"layer": 0}, r"tt_golden\(\): give the module first"),
        (("mlp", 0), {}, r"tt_golden\('mlp', 0\): give the module first"),
        (("mpl",), {"seq_len": 32}, "module is 'mpl', it must be one of embedding"),
        (("mlp",), {"seq_len": 32}, "layer is None, it must be a layer's number"),
        (("mlp",), {"layer": 0}, "seq_len is 0, it must be 1 or more"),
        (("mlp",), {"layer": 0, "seqlen": 32}, "no argument seqlen; tt_golden"),
        (("model",), {"seq_len": 32, "phase": "both"}, "phase is 'both', it must be prefill or decode"),
    ],
)
def test_a_marker_that_names_no_golden_says_what_is_wrong(
    args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    """A mistake in a marker is one line that names the argument and what it may be."""
    with pytest.raises(GoldenError, match=says) as error:
        specs(*args, **kwargs)
    assert "\n" not in str(error.value)
