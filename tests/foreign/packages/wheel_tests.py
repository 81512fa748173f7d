"""Runs the op tests that torch-ttnn's wheel holds, from where it is installed, on target shadow; one row of a table a test.

    python tests/foreign/packages/wheel_tests.py ROWS.jsonl CASES [folder or file below the wheel's tests ...]

Of a file's cases CASES run, evenly spread; 0: all. `autogen_op/ALL` alone has 11,721, most of them shapes of one op.

A process of its own runs them, and another goes on where one died. Rows that the file has already are not run again.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

# What a row's outcome may be; of these only the first four count as tests that can run with today's torch and ttnn.
PASSED = "passed"
WRONG = "wrong values"  # every value is known, and it is not PyTorch's
NOT_COVERED = "not covered"  # shadow knows no value of an op it called
CRASHED = "crashed"
NOT_TODAY = "cannot run today"  # torch, torch-ttnn or ttnn raises, whatever the values
SKIPPED = "skipped"
EXPECTED = "expected to fail"
UNDEFINED = "no right value"  # PyTorch's own result is another at every run
RUNNABLE = (PASSED, WRONG, NOT_COVERED, CRASHED)

PASSING = 0.95  # of those that can run, for exit status 0; and none with wrong values
ACCURACY = 0.99  # PCC, torch-ttnn's own bound in these tests
LIMIT = 120  # seconds a test
_UNDEFINED = re.compile(r"aten\.(?:new_)?empty|aten\.native_dropout\.")
_RAISED = re.compile(r"^Failed to (?:run|run native)\. Raised exception: (.*)", re.MULTILINE | re.DOTALL)


@dataclass
class Row:
    """A test, how it ended and why."""

    test: str
    outcome: str
    cause: str = ""
    source: str = ""  # the weakest of the values it read
    seconds: float = 0.0


def tests_folder() -> Path:
    """Where the installed wheel's tests are; raises PackageNotFoundError without it."""
    for file in metadata.files("torch-ttnn") or ():
        if file.parts[:2] == ("tests", "conftest.py"):
            return Path(str(file.locate())).parent
    raise FileNotFoundError("torch-ttnn is installed without its tests")


def read(rows: Path) -> list[Row]:
    """The rows there are; of a test that was begun and never ended, that it crashed."""
    if not rows.exists():
        return []
    found: dict[str, Row] = {}
    for line in rows.read_text("utf-8").splitlines():
        row = Row(**json.loads(line))
        found[row.test] = row
    return list(found.values())


def summary(rows: Sequence[Row]) -> str:
    """The table: outcomes, then every cause with how many tests it has."""
    outcomes = Counter(row.outcome for row in rows)
    runnable = sum(outcomes[outcome] for outcome in RUNNABLE)
    lines = [f"{outcome:18} {n:5}" for outcome, n in outcomes.most_common()]
    lines.append(f"{outcomes[PASSED]} of {runnable} that can run pass")
    causes = Counter((row.outcome, row.cause) for row in rows if row.outcome != PASSED)
    lines += [f"{n:5} {outcome}: {cause}" for (outcome, cause), n in causes.most_common()]
    return "\n".join(lines)


def run(rows: Path, cases: int, paths: Sequence[str]) -> list[Row]:
    """Runs what the file of rows does not have yet, and returns all rows."""
    rows = rows.absolute()
    while True:
        before = len(read(rows))
        with tempfile.TemporaryDirectory() as folder:  # the tests leave files where they run
            done = subprocess.run(
                [sys.executable, __file__, "--child", str(rows), str(cases), *paths],
                cwd=folder,
                stdout=subprocess.DEVNULL,
            )
        found = read(rows)
        if done.returncode == 0:
            return found
        if len(found) == before:
            raise RuntimeError(
                f"the process that runs the tests ends with {done.returncode} before the first of them"
            )


class Table:
    """The plugin that writes the rows. A test's row says `crashed` from its begin to its end."""

    def __init__(self, rows: Path, cases: int) -> None:
        self._cases = cases
        self._known = {row.test for row in read(rows)}
        self._file = rows.open("a", encoding="utf-8")
        self._begun = 0.0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        files: dict[Path, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.path, []).append(item)
        chosen = [item for of_file in files.values() for item in _spread(of_file, self._cases)]
        items[:] = [item for item in chosen if item.nodeid not in self._known]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[Any, Any, Any]:
        from harness.targets import shadow

        report = yield
        if report.when == "setup":
            self._write(Row(item.nodeid, CRASHED, f"the process died, or took more than {LIMIT} s"))
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            self._begun = time.perf_counter()
        if report.when == "call" or report.outcome != "passed":
            coverage = shadow.take_coverage()
            row = self._row(item, report, coverage)
            row.seconds = round(time.perf_counter() - self._begun, 2)
            self._write(row)
        return report

    def _row(self, item: Any, report: pytest.TestReport, coverage: Any) -> Row:
        from harness.targets.shadow import Source

        weakest = coverage.weakest_read
        row = Row(item.nodeid, PASSED, source="" if weakest is None else weakest.word)
        if report.skipped:
            expected = getattr(report, "wasxfail", None)  # a failure that torch-ttnn's own marker foretells
            row.outcome = SKIPPED if expected is None else EXPECTED
            row.cause = report.longrepr[2] if expected is None else expected  # type: ignore[index]
            return row
        if report.passed:
            return row
        crash = getattr(report.longrepr, "reprcrash", None)
        row.cause = _first_line(crash.message if crash else str(report.longrepr))
        metric = (getattr(item.module, "metrics", None) or [{}])[-1]
        raised = _RAISED.search(report.capstdout)
        if weakest is Source.NONE:
            row.outcome = NOT_COVERED
            row.cause = "; ".join(
                f"{op}: {reason}"
                for (op, source), reason in coverage.reasons.items()
                if source is Source.NONE
            )[:300]
        elif raised:
            row.outcome = NOT_TODAY
            native = "" if metric.get("native_run", True) is True else "PyTorch: "
            row.cause = native + _first_line(raised[1])
        elif isinstance(metric.get("accuracy"), float) and metric["accuracy"] < ACCURACY:
            row.outcome, row.cause = WRONG, f"PCC {metric['accuracy']:.4f}"
            if _UNDEFINED.match(metric["opname"]):
                row.outcome, row.cause = UNDEFINED, metric["opname"]
        else:
            row.outcome = NOT_TODAY
        return row

    def _write(self, row: Row) -> None:
        self._file.write(json.dumps(asdict(row)) + "\n")
        self._file.flush()


class Fixtures:
    """What the wheel's tests ask for: a device, and that values are checked."""

    @pytest.fixture(scope="session")
    def device(self) -> Generator[Any, None, None]:
        """One device, with the small L1 that convolutions need."""
        import ttnn

        device = ttnn.open_device(device_id=0, l1_small_size=1 << 16)
        ttnn.SetDefaultDevice(device)
        yield device
        ttnn.close_device(device)

    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        """Nothing compiled before, and random numbers that are the same whichever tests ran."""
        import torch

        torch._dynamo.reset()
        torch.manual_seed(0)

    @pytest.fixture
    def input_var_only_native(self) -> bool:
        return False

    @pytest.fixture
    def input_var_check_accu(self) -> bool:
        return True

    @pytest.fixture
    def input_var_check_ttnn(self) -> bool:
        return False


def _spread(items: list[pytest.Item], count: int) -> list[pytest.Item]:
    if not count or len(items) <= count:
        return items
    return [items[i * len(items) // count] for i in range(count)]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]


def _child(rows: Path, cases: int, paths: Sequence[str]) -> int:
    folder = tests_folder()
    sys.path.insert(0, str(folder.parent))
    from harness.targets import activate

    activate("shadow", mesh="1x1", mode="fast")
    import torch
    import ttnn
    from torch.fx.experimental import symbolic_shapes

    torch.set_num_threads(1)
    # Two names that torch-ttnn needs to be imported at all, and that torch and ttnn have no more.
    symbolic_shapes.hint_int = symbolic_shapes.guarding_hint_or_throw
    ttnn.device.is_grayskull = lambda device: False
    Path("pytest.ini").write_text("[pytest]\n")
    arguments = [
        "-q",
        "-c",
        "pytest.ini",
        f"--rootdir={folder}",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:tt_harness",
    ]
    # Not their conftest: it is for another ttnn, and files run times. What the tests ask for is in `Fixtures`.
    arguments += ["-p", "no:xdist", "-p", "no:benchmark", "--noconftest"]
    plugins = [Table(rows, cases), Fixtures()]
    status = pytest.main([*arguments, *(str(folder / path) for path in paths)], plugins=plugins)
    return 0 if status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(status)


def main(argv: Sequence[str]) -> int:
    if argv[0] == "--child":
        return _child(Path(argv[1]), int(argv[2]), argv[3:])
    rows = run(Path(argv[0]), int(argv[1]), argv[2:] or ["autogen_op/ALL"])
    print(summary(rows))
    runnable = [row.outcome for row in rows if row.outcome in RUNNABLE]
    good = runnable.count(PASSED) >= PASSING * len(runnable) > 0
    return 0 if good and WRONG not in runnable else 1


if __name__ == "__main__":
    os.environ.setdefault("TT_LOGGER_LEVEL", "fatal")
    sys.exit(main(sys.argv[1:]))
