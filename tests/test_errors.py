"""How programs end: an exception is a line and status 2, never 1, which means a regression."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.app import Commands, app
from harness.errors import UserError, ending

EVERY_COMMAND = sorted(command.name or command.callback.__name__ for command in app.registered_commands)  # type: ignore[union-attr]


class NobodysError(Exception):
    """Of no library that is foreseen."""


def ended(error: BaseException) -> tuple[int, str]:
    """Status and output of a command that raises it, in a group of the group."""
    group, inner = typer.Typer(cls=Commands, pretty_exceptions_enable=False), typer.Typer()

    @inner.command()
    def fail() -> None:
        raise error

    inner.command()(lambda: None)
    group.add_typer(inner, name="inner")
    result = CliRunner().invoke(group, ["inner", "fail"])
    return result.exit_code, result.output.strip()


@pytest.mark.parametrize(
    "error",
    [
        NobodysError("two\nlines"),
        ValueError(""),
        KeyError("key"),
        OSError(28, "No space left on device"),
        MemoryError(),
        RecursionError("deep"),
        ImportError("no module"),
        EOFError(),
        AssertionError("x"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "bad"),
    ],
    ids=repr,
)
def test_an_exception_is_a_line_that_names_its_traceback(error: Exception) -> None:
    """Its kind, what it says, and a file for whoever mends it."""
    status, message = ended(error)
    assert status == 2
    (line,) = message.splitlines()
    assert line.startswith(f"error: {type(error).__name__}: ")
    log = Path(line.rpartition("traceback in ")[2].rstrip(")"))
    assert "in fail" in log.read_text()
    log.unlink()


def test_an_error_of_ours_is_its_own_line() -> None:
    """A command that forgot one shows what it says, and no traceback."""
    assert ended(UserError("mesh '3x': give rows x columns")) == (2, "error: mesh '3x': give rows x columns")


@pytest.mark.parametrize(
    ("code", "status"), [(0, 0), (2, 2), (1, 2), (5, 2), ("no\nsuch thing", 2), (None, 0)]
)
def test_a_library_that_ends_the_program_says_nothing_of_a_regression(code: object, status: int) -> None:
    """Its 1 is not ours."""
    assert ended(SystemExit(code))[0] == status


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_commands_own_status_stays(status: int) -> None:
    """1 is a regression there."""
    assert ended(typer.Exit(status)) == (status, "")


def test_usage_is_2() -> None:
    """As Typer has it."""
    assert ended(typer.BadParameter("what"))[0] == 2


def test_where_no_traceback_can_be_kept_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is there all the same."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    status, message = ended(NobodysError("x"))
    assert status == 2
    assert "its traceback could not be kept" in message


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_every_command_ends_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its first step raises."""
    command = next(c for c in app.registered_commands if name in (c.name, c.callback and c.callback.__name__))

    def broken() -> None:
        raise NobodysError(name)

    assert command.callback is not None
    broken.__name__ = command.callback.__name__  # which names the command
    monkeypatch.setattr(command, "callback", broken)
    result = CliRunner().invoke(app, [name])
    assert result.exit_code == 2
    assert f"error: NobodysError: {name}" in result.output


@pytest.mark.parametrize("module", ["harness.conformance.stream", "harness.conformance.calls"])
def test_programs_of_modules_end_so(module: str, tmp_path: Path) -> None:
    """A target that is not there, and a file that cannot be written."""
    target = (
        ["emulator", "1x1", "smollm2", "accuracy"] if module == "harness.conformance.stream" else ["emulator"]
    )
    for arguments in ([*target[:0], "nosuch", *target[1:], "x.json"], ["--nonsense"]):
        process = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert process.returncode == 2, process
        assert "Traceback" not in process.stderr


def test_a_reader_that_has_gone_is_no_regression() -> None:
    """`tt-harness ... | head` ends with 2 at most."""
    read, write = os.pipe()
    os.close(read)
    code = "from harness.errors import ending\nwith ending():\n    print('x' * 10**6, flush=True)"
    process = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (process.returncode, process.stderr) == (2, "")


def test_nothing_happens_where_nothing_is_raised() -> None:
    """The program goes on."""
    with ending():
        pass
