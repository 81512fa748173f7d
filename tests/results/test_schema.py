import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.results.schema import (
    Environment,
    Record,
    ResultsError,
    read_results,
    record_from_json,
    record_to_json,
    write_results,
)

ENVIRONMENT = Environment.collect(
    target="emulator", mesh="1x1", model="SmolLM2-135M-Instruct", emulator_mode="fast"
)


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "test": "suites/modules/test_mlp.py::test_mlp[0-prefill]",
        "module": "mlp",
        "metric": "pcc",
        "value": 0.9995,
        "verdict": "pass",
        "target": "emulator",
        "precision": "accuracy",
    }
    return Record(**fields | changes)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    write_results(path, ENVIRONMENT, [record(), record(layer=3)])
    return path


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 4 KiB: what a full disk does to a write, with EFBIG for ENOSPC.

    Not a fixture: pytest reports inside those, and its own output may be a longer file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    """What is written is read back equal: None, text, negative layers of detail and all."""
    full = record(
        layer=3, phase="decode", batch=32, seq_len=128, unit="s", n=7, clock="model", guideline=0.999, gate=0.99,
        direction="higher", golden="mlp-1f", note='say "no"\nµ', details={"max": 2.5, "text": "Paris"},
    )  # fmt: skip
    path = tmp_path / "deep" / "results.json"
    write_results(path, ENVIRONMENT, [full, record(value=None, verdict="missing_golden")])
    back = read_results(path)
    assert back.environment == ENVIRONMENT
    assert back.records == (full, record(value=None, verdict="missing_golden"))
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_nan_and_infinities_survive_in_strict_json(tmp_path: Path) -> None:
    """NaN and both infinities are written as strings, in JSON any parser reads, and come back as floats."""
    path = tmp_path / "results.json"
    write_results(path, ENVIRONMENT, [record(value=math.nan, gate=math.inf, details={"low": -math.inf})])
    plain = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert (plain["records"][0]["value"], plain["records"][0]["gate"]) == ("nan", "inf")
    (back,) = read_results(path).records
    assert back.value is not None
    assert math.isnan(back.value)
    assert (back.gate, back.details["low"]) == (math.inf, -math.inf)


def test_a_worker_can_send_a_record_as_json() -> None:
    """record_to_json gives plain JSON values that record_from_json turns back."""
    sent = json.loads(json.dumps(record_to_json(record(details={"stderr": 0.1})), allow_nan=False))
    assert record_from_json(sent) == record(details={"stderr": 0.1})


@pytest.mark.parametrize(
    "wrong",
    [{"value": "0.9"}, {"verdict": "ok"}, {"layer": "0"}, {"phase": "train"}, {"n": 1.5}, {"extra": 1}],
)
def test_a_wrong_field_is_refused_when_made(wrong: dict[str, Any]) -> None:
    """Types are strict and names fixed: a record that would mislead a reader cannot be made."""
    with pytest.raises(ValidationError):
        record(**wrong)


def test_a_record_does_not_change() -> None:
    """A filed record is frozen."""
    with pytest.raises(AttributeError):
        record().value = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_one_line(written: Path, share: float) -> None:
    """A file cut anywhere is named as incomplete."""
    text = written.read_text()
    written.write_text(text[: int(len(text) * share)])
    with pytest.raises(ResultsError, match=r"results\.json is not complete JSON \(truncated\?\)") as caught:
        read_results(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "has schema 2; this version reads schema 1"),
        ({"schema": None}, "has schema None"),
        ({"records": None}, "a list 'records'"),
        ({"records": [3]}, "record 0 is int; expected an object"),
        ({"environment": {}}, "environment: field model is"),
    ],
)
def test_a_wrong_file_is_one_line(written: Path, change: dict[str, Any], message: str) -> None:
    """Another schema and missing parts are named."""
    written.write_text(json.dumps(json.loads(written.read_text()) | change))
    with pytest.raises(ResultsError, match=message) as caught:
        read_results(written)
    assert "\n" not in str(caught.value)


def test_a_wrong_record_is_named_by_number_and_field(written: Path) -> None:
    """The first wrong record is named, with its field, its value and what would be right."""
    data = json.loads(written.read_text())
    data["records"][1]["verdict"] = "fine"
    written.write_text(json.dumps(data))
    with pytest.raises(ResultsError, match="record 1: field verdict is 'fine': Input should be 'pass'"):
        read_results(written)


def test_not_a_results_file(tmp_path: Path) -> None:
    """Other JSON, binary and an absent file are each one line."""
    path = tmp_path / "results.json"
    with pytest.raises(ResultsError, match=r"cannot read results .*: No such file"):
        read_results(path)
    path.write_text("[1]")
    with pytest.raises(ResultsError, match="is not a results file: no 'schema'"):
        read_results(path)
    path.write_text('{"schema": NaN}')
    with pytest.raises(ResultsError, match="bare NaN"):
        read_results(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResultsError, match="is not complete JSON"):
        read_results(path)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """When the disk takes no more the message is one line, the old results stand, and no temporary file is left."""
    path = tmp_path / "results.json"
    write_results(path, ENVIRONMENT, [record()])
    before = path.read_text()
    refused = pytest.raises(ResultsError, match=r"cannot write .*results\.json \(\d+ bytes\): File too large")
    with refused as caught, small_disk():
        write_results(path, ENVIRONMENT, [record()] * 100)
    assert "\n" not in str(caught.value)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    """A path through a file cannot be written and is named."""
    (tmp_path / "out").write_text("")
    with pytest.raises(ResultsError, match=r"cannot write .*out/results\.json \(\d+ bytes\): File exists"):
        write_results(tmp_path / "out" / "results.json", ENVIRONMENT, [])


def test_the_environment_knows_this_machine() -> None:
    """Versions of what is installed are given, None for what is not, and at least one core."""
    import torch

    installed = ENVIRONMENT.versions["torch"]
    assert installed is not None
    assert torch.__version__.startswith(installed.split("+")[0])
    assert set(ENVIRONMENT.versions) == {"torch", "transformers", "ttnn"}
    assert ENVIRONMENT.cpu_count >= 1
    assert ENVIRONMENT.cpu_model


def test_the_path_taken_for_the_cpu_is_kept_and_may_be_absent(written: Path) -> None:
    """A file written before there was the field loads; one of a dry run says nothing of it."""
    path = "avx2 (pretended), products in float32, compiled kernels"
    write_results(written, replace(ENVIRONMENT, cpu_path=path), [record()])
    assert read_results(written).environment.cpu_path == path
    assert read_results(written).environment.machine.endswith(f" ({path})")
    older = json.loads(written.read_text())
    del older["environment"]["cpu_path"]
    written.write_text(json.dumps(older))
    assert read_results(written).environment == ENVIRONMENT
    older["environment"]["cpu_path"] = 2
    written.write_text(json.dumps(older))
    with pytest.raises(ResultsError, match="environment: field cpu_path is 2"):
        read_results(written)
