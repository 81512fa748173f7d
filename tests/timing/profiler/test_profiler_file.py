"""The profiler's file: the region, the ops and the total that tt-perf-report finds in it, and what is refused."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tt_perf_report.perf_report import generate_perf_report, parse_id_range

from harness.timing.profiler.profiler_file import KERNEL, Region, ReportedOp, ReportError, read, seconds_of

COLUMNS = (
    *("OP CODE", "OP TYPE", "GLOBAL CALL COUNT", "DEVICE ID", "CORE COUNT", "HOST START TS"),
    *(KERNEL, "OP TO OP LATENCY [ns]", "INPUT_0_MEMORY", "ATTRIBUTES"),
)
Row = dict[str, Any]


def op(code: str, nanoseconds: object = 1000, gap: object = 100, device: object = 0, **more: Any) -> Row:
    return {"OP CODE": code, "OP TYPE": "tt_dnn_device", KERNEL: nanoseconds, "DEVICE ID": device} | {
        "OP TO OP LATENCY [ns]": gap,
        **more,
    }


def post(name: str, **more: Any) -> Row:
    return {"OP CODE": name, "OP TYPE": "signpost", **more}


def host(code: str, **more: Any) -> Row:
    return {"OP CODE": code, "OP TYPE": "tt_dnn_cpu", **more}


def text_of(rows: Iterable[Row], columns: Iterable[str] = COLUMNS) -> str:
    """The file; HOST START TS counts up where a row does not say it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for number, row in enumerate(rows):
        writer.writerow({"HOST START TS": number, "GLOBAL CALL COUNT": number, "CORE COUNT": 64, **row})
    return text.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """file(rows, columns=...) writes them."""

    def write(rows: Iterable[Row], columns: Iterable[str] = COLUMNS, name: str = "ops.csv") -> Path:
        path = tmp_path / name
        path.write_text(text_of(rows, columns))
        return path

    return write


def codes(path: Path, **region: Any) -> str:
    return " ".join(one.code for one in read(path, Region(**region)).ops)


def theirs(path: Path, region: Region) -> list[tuple[str, float, float]]:
    """What tt-perf-report makes of the file: op, its time and the gap before it, microseconds."""
    table = path.with_suffix(".table")
    with contextlib.redirect_stdout(io.StringIO()):
        generate_perf_report(
            csv_files=[str(path)],
            start_signpost=region.start_signpost,
            end_signpost=region.end_signpost,
            ignore_signposts=region.ignore_signposts,
            print_signposts=False,
            min_percentage=0.5,
            id_range=parse_id_range(region.id_range),
            arch="wormhole",
            csv_output_file=str(table),
            no_advice=True,
            tracing_mode=region.tracing_mode,
            raw_op_codes=True,
            no_host_ops=False,
            no_summary=True,
            group_by="op",
            classic_colors=False,
            summary_file=None,
            no_stacked_report=True,
            no_stack_by_in0=True,
            stacked_csv=None,
            no_merge_devices=not region.merge_devices,
        )
    with table.open() as rows:
        return [
            (row["Raw OP Code"], float(row["Device Time"] or 0), float(row["Op-to-Op Gap"] or 0))
            for row in csv.DictReader(rows)
            if "(signpost)" not in row["OP Code"]
        ]


def test_the_region_between_a_start_and_a_stop(file: Callable[..., Path]) -> None:
    """Behind the last signpost there is nothing: that is said, with the way to what lies between."""
    path = file([op("A"), post("start"), op("B", 2000), op("C", 3000), post("stop")])
    assert codes(path, start_signpost="start", end_signpost="stop") == "B C"
    assert codes(path, start_signpost="start") == "B C"
    assert codes(path, end_signpost="start") == "A"
    assert codes(path, ignore_signposts=True) == "A B C"
    with pytest.raises(
        ReportError, match=r"behind the signpost 'stop'; its signposts: 'start', 'stop'; choose with"
    ):
        read(path)


def test_signposts_of_one_name(file: Callable[..., Path]) -> None:
    """The region ends at the second where it begins at the first; without options it begins at the first of the last's name."""
    path = file([op("A"), post("step"), op("B"), post("step"), op("C"), post("step"), op("D")])
    assert codes(path, start_signpost="step", end_signpost="step") == "B"
    assert codes(path) == "B C D"


def test_no_signpost_is_the_whole_file(file: Callable[..., Path]) -> None:
    """And a single one divides it."""
    assert codes(file([op("A"), op("B")])) == "A B"
    assert codes(file([op("A"), post("here"), op("B")])) == "B"


def test_lines_by_number(file: Callable[..., Path]) -> None:
    """The header is line 1; the gap before the first is not of the range."""
    path = file([op("A"), op("B", gap=500), op("C")])
    assert codes(path, id_range="3-") == "B C"
    assert codes(path, id_range="-3") == "A B"
    assert codes(path, id_range="3-3") == "B"
    assert read(path, Region(id_range="3-")).ops[0].gap is None


def test_rows_are_in_the_order_of_the_host(file: Callable[..., Path]) -> None:
    """But of a trace as they stand, whose rows say when it was captured."""
    path = file([op("B", **{"HOST START TS": 9}), op("A", **{"HOST START TS": 3})])
    assert codes(path) == "A B"
    assert codes(path, tracing_mode=True) == "B A"


def test_of_several_devices_the_slowest_counts(file: Callable[..., Path]) -> None:
    """Of a collective the mean; where devices differ in their ops it is told."""
    path = file(
        [op("A", 1000), op("A", 3000, device=1), op("AllGather", 1000), op("AllGather", 3000, device=1)]
    )
    result = read(path)
    assert [one.seconds for one in result.ops] == pytest.approx([3e-6, 2e-6])
    assert not result.warnings
    assert codes(path, merge_devices=False) == "A A AllGather AllGather"
    (warning,) = read(file([op("A"), op("B"), op("B", device=1)])).warnings
    assert "A is on 1 of 2 devices" in warning


def test_the_first_gap_is_not_of_the_region(file: Callable[..., Path]) -> None:
    """Nor is one that overlaps, which the total does without."""
    path = file(
        [post("start"), op("A", 1000, 9_000_000), op("B", 1000, 100), op("C", 1000, -50), op("D", 1000, "")]
    )
    assert [one.gap for one in read(path).ops] == [None, pytest.approx(1e-7), None, None]
    assert seconds_of(read(path).ops) == pytest.approx(4.1e-6)


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "inf", "-inf", "-1", "-", "n/a", "12 us", "1,000"])
def test_a_row_without_a_time_is_named(file: Callable[..., Path], cell: str) -> None:
    """Its line, op and cell, wherever it stands in the region; outside of it nothing is lost."""
    for device in (0, 1):
        path = file(
            [op("A"), op("A", device=1), post("x"), op("B", device=1 - device), op("B", cell, device=device)]
        )
        with pytest.raises(ReportError, match="1 rows without a usable DEVICE KERNEL") as caught:
            read(path)
        assert f"line 6 (B: {cell!r})" in str(caught.value)
        assert "\n" not in str(caught.value)
    path = file([op("A", cell), post("x"), op("B")])
    assert codes(path) == "B"
    assert codes(path, ignore_signposts=True, id_range="3-") == "B"


def test_timestamps_that_run_backwards_are_no_times(file: Callable[..., Path]) -> None:
    """A gap of less than a millisecond below zero, or less than half the op, overlaps; beyond that the row is broken."""
    assert codes(file([op("A"), op("B", 1000, -900_000)])) == "A B"
    with pytest.raises(ReportError, match="line 3"):
        read(file([op("A"), op("B", 1000, -2_000_000)]))


def test_a_hosts_op_need_not_say_a_devices_time(file: Callable[..., Path]) -> None:
    """It is on the list with none; one that is no number is refused."""
    path = file([op("A"), host("to_torch (torch)"), host("cpu op"), op("B", **{"OP TYPE": "tt_dnn_device"})])
    ops = read(path).ops
    assert [(one.code, one.on_host) for one in ops] == [
        ("A", False),
        ("to_torch (torch)", True),
        ("cpu op", True),
        ("B", False),
    ]
    with pytest.raises(ReportError, match="cpu op"):
        read(file([op("A"), host("cpu op", **{KERNEL: "soon"})]))
    with pytest.raises(ReportError, match="no op of a device"):
        read(file([host("to_torch (torch)"), host("cpu op")]))


@pytest.mark.parametrize("left_out", ["OP CODE", "OP TYPE", "DEVICE ID", KERNEL])
def test_a_column_that_is_missing_is_named(file: Callable[..., Path], left_out: str) -> None:
    """With rows, and without any."""
    for rows in ([op("A")], []):
        with pytest.raises(ReportError) as caught:
            read(file(rows, [name for name in COLUMNS if name != left_out]))
        assert str(caught.value).endswith(f"it has no {left_out}")


def test_columns_that_may_be_missing(file: Callable[..., Path]) -> None:
    """Gaps and the order of the host."""
    path = file([op("B"), op("A")], ["OP CODE", "OP TYPE", "DEVICE ID", KERNEL])
    assert codes(path) == "B A"
    assert [one.gap for one in read(path).ops] == [None, None]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"a,b\n1,2\n",
        text_of([]).encode(),
        text_of([op("A")])[:-12].encode(),
        b"\x00\x01",
    ],
)
def test_another_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    """Empty, of other columns, without rows, cut short, or no text."""
    path = tmp_path / "ops.csv"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"ops\.csv") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReportError, match="cannot be read"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "encode", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t.replace("\n", "\n\n")]
)
def test_marks_and_line_ends_do_not_matter(tmp_path: Path, encode: Callable[[str], str]) -> None:
    """A byte order mark, carriage returns, empty lines."""
    path = tmp_path / "ops.csv"
    path.write_bytes(encode(text_of([op("A"), post("x"), op("B")])).encode())
    assert codes(path) == "B"


@pytest.mark.parametrize(
    ("region", "says"),
    [
        ({"start_signpost": "y"}, "it has no signpost 'y'; its signposts: 'x'"),
        ({"end_signpost": "y"}, "it has no signpost 'y'"),
        ({"start_signpost": "x", "end_signpost": "x"}, "it has no second signpost 'x'"),
        ({"start_signpost": "x", "ignore_signposts": True}, "choose one"),
        ({"id_range": "9-"}, "no op of a device"),
        ({"id_range": "5"}, "id range '5'"),
        ({"id_range": "-"}, "id range '-'"),
        ({"id_range": "a-b"}, "id range 'a-b'"),
        ({"id_range": "4-3"}, "no op of a device"),
    ],
    ids=str,
)
def test_a_region_that_is_not_there_is_refused(
    file: Callable[..., Path], region: dict[str, Any], says: str
) -> None:
    """tt-perf-report would take another one."""
    with pytest.raises(ReportError) as caught:
        read(file([op("A"), post("x"), op("B")]), Region(**region))
    assert says in str(caught.value)


def test_a_cards_file_of_the_older_format_is_read(tmp_path: Path) -> None:
    """No padded shapes, no clock of ours, two devices: each op once after the last signpost, on the device's clock."""
    header = "OP CODE,OP TYPE,DEVICE ID,DEVICE KERNEL DURATION [ns],OP TO OP LATENCY [ns],CORE COUNT,MATH FIDELITY,"
    header += "INPUT_0_W,INPUT_0_Z,INPUT_0_Y,INPUT_0_X,INPUT_0_DATATYPE,INPUT_0_MEMORY\n"
    rows = [
        "Tilize,tt_dnn_device,0,5,0,1,,1,1,32,32,BFLOAT16,DEV_0_DRAM_INTERLEAVED\n",
        "Performance pass,signpost,,,,,,,,,,,\n",
        *(f"Matmul,tt_dnn_device,{d},2500,1000,64,HiFi2,1,1,32,64,BFLOAT16,DEV_{d}_L1\n" for d in (0, 1)),
    ]
    path = tmp_path / "ops_perf_results.csv"
    path.write_text(header + "".join(rows))
    result = read(path)
    (matmul,) = result.ops
    assert (result.signpost, result.clock) == ("Performance pass", "device")
    assert (matmul.code, matmul.seconds, matmul.gap, matmul.cores) == ("Matmul", 2.5e-6, None, 64)
    assert matmul.inputs[0].shape == (1, 1, 32, 64)


def outcome(path: Path, region: Region) -> tuple[str, tuple[ReportedOp, ...]]:
    """Why it is refused, or its ops."""
    try:
        return "", read(path, region).ops
    except ReportError as error:
        return str(error), ()


names = st.sampled_from(["start", "stop", "step"])
ops = st.builds(
    op,
    code=st.sampled_from(["Tilize", "BinaryNg", "AllGather", "start"]),
    nanoseconds=st.integers(0, 10**6) | st.floats(0, 1e6),
    gap=st.integers(-(10**5), 10**6) | st.just(""),
    device=st.integers(0, 2),
)
rows = st.lists(
    ops | ops | ops | st.builds(post, names) | st.builds(host, st.just("from_torch (torch)")), max_size=12
)
regions = st.builds(
    Region,
    start_signpost=st.none() | names,
    end_signpost=st.none() | names,
    id_range=st.none() | st.sampled_from(["4-", "-6", "3-8"]),
    tracing_mode=st.booleans(),
    merge_devices=st.booleans(),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rows=rows, region=regions, order=st.randoms(use_true_random=False), shuffled=st.booleans())
def test_any_region_of_any_file_is_tt_perf_reports(
    rows: list[Row], region: Region, order: Any, shuffled: bool
) -> None:
    """The same ops in the same order with the same times, or a line that says why not."""
    starts = list(range(len(rows)))
    if shuffled:
        order.shuffle(starts)
    rows = [row | {"HOST START TS": start} for row, start in zip(rows, starts, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ops.csv"
        path.write_text(text_of(rows))
        refusal, result = outcome(path, region)
        if refusal:
            assert "\n" not in refusal
            assert any(word in refusal for word in ("signpost", "no op of a device", "is not a profiler"))
            return
        expected = theirs(path, region)
    assert [one.code for one in result] == [code for code, _, _ in expected]
    assert [one.seconds * 1e6 for one in result] == pytest.approx([time for _, time, _ in expected])
    assert [(one.gap or 0) * 1e6 for one in result] == pytest.approx([gap for _, _, gap in expected])
