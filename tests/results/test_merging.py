"""Parts of one run join to what one process would have written; parts of two runs do not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.results.merging import merged
from harness.results.schema import Environment, Record, Results, ResultsError, read_results, write_results

ENVIRONMENT = replace(
    Environment.collect(
        target="emulator",
        mesh="1x1",
        model="smollm2",
        weights_digest="abc",
        emulator_mode="fast",
        goldens="g",
    ),
    commit="0123",
)


def part(mesh: str, value: float = 0.999, **changes: Any) -> Results:
    """A record of the mesh, and one of the floor, which each part has."""
    ours = Record(
        test="test_mlp",
        module="mlp",
        metric="pcc",
        value=value,
        verdict="pass",
        target="emulator",
        precision="accuracy",
    )
    floor = replace(ours, test="test_floor", target="torch", precision="bf16", value=math.nan)
    return Results(replace(ENVIRONMENT, mesh=mesh, **changes), (replace(ours, mesh=mesh), floor))


def test_parts_of_one_run_join(tmp_path: Path) -> None:
    for mesh in ("1x1", "1x2"):
        one = part(mesh)
        write_results(tmp_path / f"{mesh}.json", one.environment, one.records)
    files = [str(tmp_path / f"{mesh}.json") for mesh in ("1x1", "1x2")]
    result = CliRunner().invoke(app, ["merge", *files, "--out", str(tmp_path / "all.json")])
    assert result.exit_code == 0, result.output
    whole = read_results(tmp_path / "all.json")
    assert whole.environment == replace(ENVIRONMENT, mesh="1x1,1x2")
    assert [(r.target, r.mesh) for r in whole.records] == [
        ("emulator", "1x1"),
        ("torch", "1x1"),
        ("emulator", "1x2"),
    ]


def test_a_dry_run_knows_no_goldens_and_joins() -> None:
    dry = part("1x2", target="dryrun", weights_digest=None, goldens=None, emulator_mode=None)
    assert merged({"a": dry, "b": part("1x1")}).environment == replace(
        ENVIRONMENT, target="dryrun,emulator", mesh="1x2,1x1"
    )


@pytest.mark.parametrize("field", ["commit", "model", "weights_digest", "goldens", "emulator_mode"])
def test_parts_of_two_runs_do_not(field: str) -> None:
    with pytest.raises(
        ResultsError, match=rf"^a is of {field.replace('_', ' ')} .*, b of other: they are not of one run"
    ):
        merged({"a": part("1x1"), "b": part("1x2", **{field: "other"})})


def test_parts_that_contradict_do_not() -> None:
    with pytest.raises(ResultsError, match="a and b both have test_mlp on mesh 1x1"):
        merged({"a": part("1x1"), "b": part("1x1", value=0.998)})


def test_nothing_is_written_of_what_cannot_be_joined(tmp_path: Path) -> None:
    one, other = part("1x1"), part("1x2", commit="4567")
    write_results(tmp_path / "a.json", one.environment, one.records)
    write_results(tmp_path / "b.json", other.environment, other.records)
    out = tmp_path / "all.json"
    result = CliRunner().invoke(
        app, ["merge", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--out", str(out)]
    )
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert not out.exists()
