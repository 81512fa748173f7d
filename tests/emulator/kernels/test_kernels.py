from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from harness.emulator import kernels
from harness.emulator.arithmetic import accumulate, mode
from harness.emulator.arithmetic.fidelity import Math
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.spec.types import MathFidelity
from tests.emulator.arithmetic.test_fpu import library_for, scattered

LOFI = Math(MathFidelity.LoFi, fp32_dest=False)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder, and no library loaded; returns the folder."""
    monkeypatch.setenv("TT_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels, "load", kernels.load.__wrapped__)
    return tmp_path / "kernels"


def test_one_library_is_compiled_and_found_again(fresh: Path, monkeypatch) -> None:
    """The first load compiles one file, under a name made of the sources; the next compiles nothing."""
    library_for()
    assert kernels.load() is not None
    built = list(fresh.iterdir())
    assert [path.suffix for path in built] == [".so"]
    monkeypatch.setattr(kernels, "_compile", lambda *_: pytest.fail("compiled again"))
    assert kernels.load() is not None


def test_changed_sources_are_another_library(monkeypatch, tmp_path: Path) -> None:
    """The library's name changes with any source."""
    source = tmp_path / "one.cpp"
    source.write_text("int one() { return 1; }\n")
    monkeypatch.setattr(kernels, "_SOURCES", tmp_path)
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler: the naming of compiled libraries is not checked")
    before = kernels._key(compiler, "native")
    source.write_text("int one() { return 2; }\n")
    assert kernels._key(compiler, "native") != before


def test_without_a_compiler_one_line_says_so(fresh: Path, monkeypatch) -> None:
    """No compiler: no library, one warning, and the rules in torch answer."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.warns(UserWarning, match=r"^no C\+\+ compiler found: .* in torch, many times slower$"):
        assert kernels.load() is None
    monkeypatch.setattr(kernels, "load", lambda: None)
    with mode.using(Mode.EXACT):
        assert accumulate.matmul(torch.ones(1, 32), torch.ones(32, 1), LOFI).item() == 32


def test_sources_that_do_not_compile_are_named(fresh: Path, monkeypatch, tmp_path: Path) -> None:
    """A compiler's error becomes one warning with its message, and leaves no file behind."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler: what its errors become is not checked")
    broken = tmp_path / "sources"
    broken.mkdir()
    (broken / "broken.cpp").write_text("this is no C++\n")
    monkeypatch.setattr(kernels, "_SOURCES", broken)
    with pytest.warns(UserWarning, match="did not compile"):
        assert kernels.load() is None
    assert not list(fresh.iterdir())


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch) -> None:
    """One thread, two, or more than there is work for: the same bits."""
    library_for()
    in0, in1 = scattered(300, 96), scattered(96, 70, seed=1)
    results = []
    for count in (1, 2, 7):
        monkeypatch.setattr(kernels, "threads", lambda count=count: count)
        for arithmetic in (Mode.DEVICE, Mode.EXACT):
            with mode.using(arithmetic):
                results.append(accumulate.matmul(in0, in1, LOFI))
    assert all(torch.equal(results[i], results[i % 2]) for i in range(2, 6))


def test_calls_from_several_threads_do_not_mix(monkeypatch) -> None:
    """Two Python threads that multiply at the same time each get their own product."""
    library_for()
    monkeypatch.setattr(kernels, "threads", lambda: 2)
    inputs = [(scattered(200, 64, seed=i), scattered(64, 64, seed=i + 9)) for i in range(2)]
    with mode.using(Mode.EXACT):
        alone = [accumulate.matmul(*pair, LOFI) for pair in inputs]
        together: list[list[torch.Tensor]] = [[], []]

        def work(i: int) -> None:
            for _ in range(20):
                together[i].append(accumulate.matmul(*inputs[i], LOFI))

        workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for i in range(2):
        assert all(torch.equal(result, alone[i]) for result in together[i])


def test_a_forked_child_has_threads_of_its_own() -> None:
    """After the parent used the kernels, a forked child can use them too."""
    library_for()
    script = (
        "import os, torch\n"
        "from harness.emulator import kernels; from harness.emulator.arithmetic import accumulate, mode\n"
        "from harness.emulator.arithmetic.fidelity import Math\n"
        "from harness.emulator.spec.types import MathFidelity\n"
        "kernels.threads = lambda: 2\n"
        "mode.set_mode(mode.Mode.EXACT)\n"
        "def work():\n"
        "    math = Math(MathFidelity.LoFi, fp32_dest=False)\n"
        "    return accumulate.matmul(torch.ones(150, 32), torch.ones(32, 150), math).sum().item()\n"
        "assert work() == 150 * 150 * 32\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if work() == 150 * 150 * 32 else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True, timeout=120)
