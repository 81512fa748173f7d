"""`tt-harness op-diff` on a profiler's files: its options, its exit status, and its total beside op-report's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app

HEADER = "OP CODE,OP TYPE,DEVICE ID,HOST START TS,DEVICE KERNEL DURATION [ns],OP TO OP LATENCY [ns]\n"


def csv_of(path: Path, times: dict[str, str], gap: str = "100") -> Path:
    """Ops between two signposts, with a warm-up before."""
    names = ["signpost start", *times, "signpost stop"]
    rows = [f"Warmup,tt_dnn_device,0,0,{10**9},0\n"]
    for number, name in enumerate(names, 1):
        kind, _, post = name.partition(" ")
        if kind == "signpost":
            rows.append(f"{post},signpost,,{number},,\n")
        else:
            rows.append(f"{name},tt_dnn_device,0,{number},{times[name]},{gap}\n")
    path.write_text(HEADER + "".join(rows))
    return path


def diff(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["op-diff", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


REGION = ("--start-signpost", "start", "--end-signpost", "stop")


def test_a_region_is_compared(tmp_path: Path) -> None:
    """Slower is 1, as fast is 0; the warm-up is not in it."""
    before = csv_of(tmp_path / "a.csv", {"A": "1000", "B": "1000"})
    after = csv_of(tmp_path / "b.csv", {"A": "1000", "B": "2000"})
    status, message = diff(before, after, *REGION)
    assert status == 1
    assert "B: slower, and nothing else of it changed, 1 time, +1.0 us" in message
    assert "0.002 -> 0.003 ms" in message
    assert diff(before, before, *REGION)[0] == 0
    assert diff(after, before, *REGION)[0] == 0


@pytest.mark.parametrize(
    ("times", "arguments", "says"),
    [
        ({"A": "1000"}, (), "behind the signpost 'stop'"),
        ({}, REGION, "no op of a device"),
        ({"A": ""}, REGION, "line 4 (A: '')"),
        ({"A": "0"}, REGION, "took no time"),
        ({"X": "1000"}, REGION, "no op in common"),
        ({"A": "1000"}, ("--start-signpost", "begin"), "no signpost 'begin'"),
        ({"A": "1000"}, ("--id-range", "7"), "id range '7'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("swapped", [False, True])
def test_nothing_to_compare_is_2(
    tmp_path: Path, times: dict[str, str], arguments: tuple[str, ...], says: str, swapped: bool
) -> None:
    """In one line, whichever of the two files it is."""
    files = [csv_of(tmp_path / "a.csv", {"A": "1000"}), csv_of(tmp_path / "b.csv", times)]
    status, message = diff(*(files[::-1] if swapped else files), *arguments)
    assert status == 2
    (line,) = message.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_a_gap_that_one_file_does_not_say_counts_in_neither(tmp_path: Path) -> None:
    """Else a file without gaps would be the faster one."""
    times = {"A": "1000", "B": "1000", "C": "1000"}
    with_gaps, without = csv_of(tmp_path / "a.csv", times), csv_of(tmp_path / "b.csv", times, gap="")
    for files in ((with_gaps, without), (without, with_gaps)):
        assert diff(*files, *REGION) == (0, "0.003 -> 0.003 ms, +0.0%, clock: device\n")


def test_op_report_and_op_diff_agree_on_the_total(model: Path, start, tmp_path: Path) -> None:
    """What the one writes and says, the other reads and says."""
    for phase in ("prefill", "decode"):
        result = start(
            "tt-harness", "op-report", "ops.csv", f"--model={model}", f"--phase={phase}", "--seq-len=64"
        )
        assert result.status == 0, result
        total = re.search(r"ops, ([\d.]+) ms modelled", result.out)
        assert total is not None
        status, message = diff(tmp_path / "ops.csv", tmp_path / "ops.csv")
        assert (status, message.split(",")[0]) == (0, f"{total[1]} -> {total[1]} ms")
