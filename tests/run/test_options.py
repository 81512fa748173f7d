"""Options that name nothing end the run before it starts: status 2 and one line that says what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

# Written so that a run which ignored the option would fail in another way.
SOURCE = "def test_never_reached():\n    raise SystemExit('the run began')\n"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--tt-target=gpu", ["target 'gpu'", "choose one of", "emulator"]),
        ("--tt-mesh=1x3", ["1x3", "the emulator offers 1x1, 1x2"]),
        ("--tt-mesh=0x1", ["0x1", "1x1"]),
        ("--tt-mesh=abc", ["abc", "1x1"]),
        ("--tt-emulator-mode=slow", ["emulator mode 'slow'", "choose one of fast, device, exact"]),
        ("--tt-time-limit=0", ["--tt-time-limit 0", "more than 0 seconds"]),
        ("--tt-precision=bf8", ["precision 'bf8'", "choose one of accuracy, performance, bfp4_mlp"]),
        ("--tt-precision=accuracy,", ["precision ''", "choose one of accuracy"]),
        ("--tt-precision=accuracy,performance,accuracy", ["accuracy,performance,accuracy", "twice"]),
        ("--tt-model=tinyy", ["model 'tinyy'", "no such folder", "smollm2, a folder, or a Hugging Face id"]),
        ("--tt-model=nobody/nothing", ["model 'nobody/nothing'", "no such folder", "hub"]),
        ("--tt-model=empty", ["model 'empty'", "holds no safetensors"]),
        ("--tt-corpus=nowhere.txt", ["corpus nowhere.txt", "cannot be read: No such file"]),
        ("--tt-corpus=empty.txt", ["corpus empty.txt is empty"]),
        ("--tt-goldens=nosuch://place", ["golden store nosuch://place", "Protocol not known"]),
        ("--tt-results=empty.txt/results.json", ["cannot write empty.txt/results.json", "empty.txt"]),
        ("--tt-results=empty", ["cannot write empty", "it is a folder"]),
    ],
)
def test_an_option_that_names_nothing_is_one_line(
    judge, tmp_path: Path, option: str, says: list[str]
) -> None:
    """No test runs, no traceback is shown, and the line names the value and what would be right."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    line = judge(SOURCE, option).fault
    assert line.startswith("error: ")
    assert all(part in line for part in says), line


def test_making_goldens_in_several_processes_is_refused(judge) -> None:
    """-n with --tt-update-goldens would make each golden several times at once."""
    line = judge(SOURCE, "-n", "2", "--tt-update-goldens").fault
    assert "--tt-update-goldens with -n" in line
    assert "first, in one process" in line


def test_a_mistake_is_told_before_workers_start(judge) -> None:
    """Under pytest-xdist a wrong option is the same one line."""
    assert "precision 'bf8': choose one of" in judge(SOURCE, "-n", "2", "--tt-precision=bf8").fault


def test_a_corpus_too_short_for_the_goldens_ends_the_run(judge, tmp_path: Path, engineers_test: str) -> None:
    """The line says how many tokens there are, how many are needed, and for what."""
    (tmp_path / "short.txt").write_text("too short")
    result = judge(engineers_test, "--tt-corpus=short.txt", "--tt-update-goldens")
    assert result.status == 2
    assert "corpus short.txt has 9 tokens, 32 are needed" in result.out
    assert "Traceback" not in result.out + result.err
    assert not result.results.exists()


def test_the_help_names_every_option(start) -> None:
    """`pytest --help` works without a model, and lists them."""
    result = start("pytest", "--help")
    assert result.status == 0
    for name in ("target", "mesh", "model", "precision", "results", "goldens", "update-goldens", "corpus"):
        assert f"--tt-{name}" in result.out
