"""The error by layer, in words and as plots, and single tokens in their text."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console

from harness.report import render
from harness.report.layers import CHAINED, by_layer, growth
from harness.report.pictures.layers import pictures
from harness.report.tokens import shown_tokens
from harness.results.schema import Environment, Record, Results


def record(metric: str, value: float, layer: int | None, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "test": f"test_layer[{layer}]",
        "module": "decoder",
        "metric": metric,
        "value": value,
        "verdict": "pass",
        "target": "emulator",
        "precision": "accuracy",
        "phase": "prefill",
        "layer": layer,
    }
    return Record(**fields | changes)


def layers(precision: str = "accuracy") -> list[Record]:
    lines = []
    for layer, kl in enumerate((0.001, 0.1, 0.002)):
        lines.append(record("kl", kl, layer, precision=precision, note="for comparison, not gated"))
        lines.append(record("pcc", 1 - kl / 10, layer, precision=precision, note=CHAINED))
    return lines[::-1]


def test_layers_come_in_order_and_by_precision() -> None:
    """Only tests of the chained stream count, whatever the order of their records."""
    local = record("pcc", 0.5, 1, test="test_decoder[1]")
    series = by_layer([*layers(), *layers("performance"), local], "kl")
    assert series == {name: [(0, 0.001), (1, 0.1), (2, 0.002)] for name in ("accuracy", "performance")}
    assert by_layer([local, record("pcc", 0.9, 0)], "pcc") == {}
    assert by_layer([record("kl", math.nan, i, note=CHAINED) for i in range(3)], "kl") == {}


def test_the_worst_layer_is_said() -> None:
    """In a line a precision, and in each plot's words."""
    (line,) = growth(layers())
    assert line == (
        "KL by layer, accuracy: 0.001 after layer 0, 0.002 after layer 2, most after layer 1: 0.1"
    )
    kl, pcc = pictures(layers())
    assert (kl.title, pcc.title) == ("KL by layer", "PCC by layer")
    assert "accuracy: 0.001 after layer 0, 0.002 after layer 2, most after layer 1, 0.1" in kl.alt
    assert "1 - PCC of the residual stream. accuracy: 0.0001 after layer 0" in pcc.alt
    assert kl.svg.startswith("<svg")
    assert pictures([]) == []


def test_the_modules_own_error_is_not_mixed_with_the_chains() -> None:
    """The table of modules leaves the chained stream out, and the accuracy table its KL."""
    console = Console(width=200, file=io.StringIO(), color_system=None)
    environment = Environment.collect(target="emulator", mesh="1x1", model="m")
    own = record("pcc", 0.99999, 0, test="test_decoder[0]")
    render(Results(environment, (own, *layers())), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "0.99999" in text
    assert "0.99000" not in text
    assert "Accuracy against" not in text
    assert "KL by layer, accuracy" in text


def test_worst_tokens_and_flips_stand_in_their_text() -> None:
    """Each kind under a heading, flips both ways with their counts; on the terminal the first three."""
    details: dict[str, float | str] = {f"worst_token_{i}": f"KL {i}" for i in range(1, 6)}
    flips: dict[str, float | str] = {
        "lost": 2.0,
        "lost_1": "'a' -> 'b', not 'c'",
        "gained": 0.0,
        "change": 0.5,
    }
    records = [
        record("kl", 0.1, None, module="model", details=details),
        record("top1_loss", 0.01, None, module="model", details=flips, n=320),
    ]
    assert shown_tokens(records) == [
        ("Largest KL: accuracy prefill, mesh 1x1", [f"KL {i}" for i in range(1, 6)]),
        (
            "Right in the golden, wrong on the device (2 of 320 tokens): accuracy prefill, mesh 1x1",
            ["'a' -> 'b', not 'c'"],
        ),
    ]
    console = Console(width=200, file=io.StringIO(), color_system=None)
    render(Results(Environment.collect(target="emulator", mesh="1x1", model="m"), tuple(records)), console)
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert "  KL 3\n" in output
    assert "KL 4" not in output
    assert "  'a' -> 'b', not 'c'\n" in output
