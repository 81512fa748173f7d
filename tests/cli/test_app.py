"""The command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.emulator import kernels
from harness.emulator.arithmetic.products import on_bf16_units
from harness.emulator.kernels import cpu
from harness.results.schema import read_results
from harness.targets import silicon, ttsim


def leftovers(*folders: Path) -> list[Path]:
    return [
        file for folder in folders for file in folder.rglob("*") if ".tmp" in file.name or file.name[0] == "."
    ]


@pytest.fixture(scope="module")
def every_golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store filled by the first `tt-harness run` of this module."""
    return tmp_path_factory.mktemp("every") / "store"


def test_run_writes_results_and_a_report(start, model: Path, every_golden: Path, tmp_path: Path) -> None:
    """The first run makes the goldens and says so, judges every module, and leaves two whole files and nothing else."""
    result = start(
        "tt-harness",
        "run",
        "--suite=modules",
        f"--model={model}",
        f"--goldens={every_golden}",
        "--out=deep/out",
    )
    assert result.status == 0, result
    out = tmp_path / "deep" / "out"
    records = read_results(out / "results.json").records
    assert {record.verdict for record in records} == {"pass"}
    assert {record.layer for record in records} == {None, 0, 1}, "layer 14 is not asked of two layers"
    assert f"VERDICT: pass, all {len(records)} checks" in result.out
    assert "goldens are missing or stale" in result.err
    assert (out / "report.html").read_text().rstrip().endswith("</html>")
    assert {file.name for file in out.iterdir()} == {"results.json", "report.html"}
    assert result.out.splitlines()[-2:] == ["deep/out/results.json", "deep/out/report.html"]
    assert "warning" not in result.out
    assert not leftovers(every_golden)
    assert {record.test.partition("/")[0] for record in records} == {"suites"}, "from whatever folder it runs"


def test_run_exits_1_on_a_regression(start, model: Path, every_golden: Path, tmp_path: Path) -> None:
    """bfp4 weights drawn at random miss gates: status 1, and both files are written all the same."""
    options = ("--precision=bfp4_mlp", f"--model={model}", f"--goldens={every_golden}", "--out=out")
    result = start("tt-harness", "run", "--suite=modules", *options)
    assert result.status == 1, result
    verdicts = {record.verdict for record in read_results(tmp_path / "out/results.json").records}
    assert verdicts == {"pass", "regression"}
    assert "regression" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["run", "--suite=fast"],
            ["suite 'fast'", "choose one of modules, "],
        ),
        (["run", "--out=file"], ["cannot write file/results.json", "file"]),
        (["run", "--out=results.d"], ["cannot write results.d/results.json", "it is a folder"]),
        (["run", "--model=tinyy"], ["model 'tinyy'", "no such folder"]),
        (["run", "--mesh=1x3"], ["mesh '1x3'"]),
        (["run", "--precision=bf8"], ["precision 'bf8'", "choose one of"]),
        (["run", "--corpus=nowhere.txt"], ["corpus nowhere.txt cannot be read"]),
        (["goldens", "list", "--model=tinyy"], ["model 'tinyy'", "no such folder"]),
        (["goldens", "make", "--corpus=nowhere.txt"], ["corpus nowhere.txt cannot be read"]),
        (
            ["goldens", "verify", "--goldens=nosuch://place"],
            ["golden store nosuch://place", "Protocol not known"],
        ),
    ],
)
def test_a_mistake_is_one_line(
    start, model: Path, tmp_path: Path, arguments: list[str], says: list[str]
) -> None:
    """Status 2, and a line that names the value and what would be right."""
    (tmp_path / "file").touch()
    (tmp_path / "results.d" / "results.json").mkdir(parents=True)
    if not any(argument.startswith("--model") for argument in arguments):
        arguments = [*arguments, f"--model={model}"]
    line = start("tt-harness", *arguments).fault
    assert line.startswith("error: ")
    assert all(part in line for part in says), line


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param(
            "silicon",
            "there is no card",
            marks=pytest.mark.skipif(silicon.NODES.exists(), reason="this machine has cards"),
        ),
        pytest.param(
            "ttsim",
            "TT_METAL_SIMULATOR is not set",
            marks=pytest.mark.skipif(ttsim.SIMULATOR in os.environ, reason="this machine has the simulator"),
        ),
    ],
)
def test_a_target_that_is_not_here_is_one_line(start, model: Path, target: str, reason: str) -> None:
    """Where this machine has neither cards nor simulator, or no ttnn at all, a run ends with status 2 and says so."""
    line = start("tt-harness", "run", "--suite=quick", f"--target={target}", f"--model={model}").fault
    assert line.startswith(f"error: target '{target}': ")
    assert reason in line or "ttnn is not installed" in line


def test_the_path_taken_for_the_cpu_is_in_every_report(start, model: Path, tmp_path: Path) -> None:
    """In the terminal, results.json and the page; a CPU that cannot be pretended is one line."""
    run = (
        "import os; os.environ['TT_HARNESS_CPU'] = '{}'; from harness.cli.app import app; "
        f"app(['run', '--suite=modules', '--model={model}', '--goldens=store', '--', '-k', 'test_embedding'])"
    )
    line = start("python", run.format("cray1")).fault
    assert line.startswith("error: TT_HARNESS_CPU=cray1: this CPU can be taken for one of ")
    own = cpu._own()
    result = start("python", run.format(own.name))
    assert result.status == 0, result
    path = f"{own.name}, products in {'bfloat16' if on_bf16_units() else 'float32'}, "
    path += "compiled kernels" if kernels.load() else "torch for want of compiled kernels"
    assert read_results(tmp_path / "results" / "results.json").environment.cpu_path == path
    assert path in " ".join(result.out.split())
    assert path in (tmp_path / "results" / "report.html").read_text()


@pytest.mark.parametrize("limit", [3_000, 100_000])
def test_a_full_disk_leaves_nothing_half_written(start, model: Path, tmp_path: Path, limit: int) -> None:
    """Where goldens or results do not fit, the run ends with status 2, a line on what was being written, no debris."""
    (tmp_path / "out").mkdir()
    result = start(
        "tt-harness",
        "run",
        "--suite=modules",
        f"--model={model}",
        "--goldens=store",
        "--out=out",
        file_limit=limit,
    )
    assert result.status == 2
    output = [line for line in (result.out + result.err).splitlines() if "File too large" in line]
    assert len(output) == 1
    assert "cannot be written to" in output[0]
    assert "Traceback" not in result.out + result.err
    assert not list((tmp_path / "out").iterdir())
    assert not leftovers(tmp_path / "store")
    if any((tmp_path / "store").rglob("*.json")):
        assert start("tt-harness", "goldens", "verify", f"--model={model}", "--goldens=store").status == 0


def test_a_report_that_cannot_be_written_is_one_line(
    start, model: Path, every_golden: Path, tmp_path: Path
) -> None:
    """A folder in the report's place is refused; the results are kept."""
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    result = start(
        "tt-harness", "run", "--suite=modules", f"--model={model}", f"--goldens={every_golden}", "--out=out"
    )
    assert result.status == 2
    assert "error: cannot write out/report.html" in result.err


def test_goldens_are_made_listed_and_verified(
    start, model: Path, tmp_path: Path, store: Path, flip_byte
) -> None:
    """`list` names what there is, `verify` finds a flipped byte and exits 1, `make` mends it."""
    arguments = (f"--model={model}", "--goldens=store")
    listed = start("tt-harness", "goldens", "list", *arguments)
    assert (listed.status, listed.err) == (0, "")
    assert [line.split()[1::3] for line in listed.out.splitlines()] == [
        ["unused", "mlp/layer0/prefill/S32/B1"],
        ["unused", "mlp/layer0/prefill/S64/B1"],
    ]
    verified = start("tt-harness", "goldens", "verify", *arguments)
    assert verified.status == 0
    assert verified.out.rstrip().endswith("2 goldens in store/tiny, 0 corrupt")

    (data,) = store.glob("tiny/mlp.layer0.prefill.S64.B1/*.safetensors")
    flip_byte(data, -1)
    verified = start("tt-harness", "goldens", "verify", *arguments)
    assert verified.status == 1
    assert verified.err.count("golden mlp/layer0/prefill/S64/B1 is corrupt") == 1
    assert "1 corrupt" in verified.out

    making = start("tt-harness", "goldens", "make", *arguments)
    assert making.status == 0, making
    assert "mlp/layer0/prefill/S64/B1 is corrupt" in making.err
    verified = start("tt-harness", "goldens", "verify", *arguments)
    assert verified.status == 0
    lines = start("tt-harness", "goldens", "list", *arguments).out.splitlines()
    uses = {line.split()[-1]: line.split()[1] for line in lines}
    assert uses["model/prefill/S1024/B2"] == "needed", "those of the suites"
    again = start("tt-harness", "goldens", "make", *arguments)
    assert (again.err, again.out.rstrip().endswith(" 0 of them made now")) == ("", True)


def test_prune_shows_and_then_deletes_what_is_not_needed(
    start, model: Path, retrained: Path, store: Path
) -> None:
    """Goldens that no suite names, and files of a broken write, are shown with their size, and deleted with --yes alone."""
    broken = store / "tiny" / "mlp.layer0.prefill.S32.B1" / ".x.json.0.tmp"
    broken.write_bytes(b"half")
    arguments = (f"--model={model}", "--goldens=store")
    listing = start("tt-harness", "goldens", "prune", *arguments)
    assert (listing.status, listing.err) == (0, "")
    lines = listing.out.splitlines()
    assert [line.split()[1:] for line in lines[:2]] == [
        ["unused", "mlp/layer0/prefill/S32/B1"],
        ["unused", "mlp/layer0/prefill/S64/B1"],
    ]
    assert lines[2].startswith("left behind: ")
    assert lines[3].startswith("2 goldens and 1 files left behind, 0.")
    assert lines[3].endswith("store/tiny: would be deleted; --yes does it")
    assert len([file for file in store.rglob("*") if file.is_file()]) == 5

    deleted = start("tt-harness", "goldens", "prune", "--yes", *arguments)
    assert deleted.out.rstrip().endswith("store/tiny: deleted")
    assert [file for file in store.rglob("*") if file.is_file()] == []


def test_an_empty_store_lists_nothing(start, model: Path, tmp_path: Path) -> None:
    """A store that is not there yet is no error to list."""
    result = start("tt-harness", "goldens", "list", f"--model={model}", "--goldens=nothing")
    assert (result.status, result.out, result.err) == (0, "", "")
    assert not (tmp_path / "nothing").exists()
