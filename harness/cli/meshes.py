"""The same suites on several meshes, one report: a process for each mesh, because a process has one set of devices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import USAGE_EXIT
from harness.results.merging import merged
from harness.results.schema import Results, read_results, write_results


def run_each(meshes: Sequence[str], arguments: Sequence[str], out: Path, say: Callable[[str], None]) -> int:
    """Runs pytest with these arguments on each mesh; the records of all go to `out`/results.json.

    Each mesh leaves its own results and output in a folder of `out` that has its name. Returns the worst exit status;
    where a mesh cannot be run, the others still are, no joined file is left, and the status is 2.
    Raises ResultsError where a file cannot be read or written.
    """
    # Said once, of all
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    joined = out / "results.json"
    joined.unlink(missing_ok=True)  # of an earlier run
    worst, parts = 0, dict[str, Results]()
    for mesh in meshes:
        folder = out / mesh
        folder.mkdir(parents=True, exist_ok=True)
        results, log = folder / "results.json", folder / "output.txt"
        results.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", *arguments, f"--tt-mesh={mesh}", f"--tt-results={results}"]
        start = time.monotonic()
        with log.open("w", encoding="utf-8") as output:
            status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=quiet).returncode
        say(f"mesh {mesh}: status {status} after {time.monotonic() - start:.0f} s, output in {log}")
        if results.exists() and status < USAGE_EXIT:
            parts[mesh] = read_results(results)
        else:
            status = USAGE_EXIT
            lines = log.read_text(encoding="utf-8").strip().splitlines()
            say(f"mesh {mesh}: {lines[-1] if lines else 'it said nothing'}")
        worst = max(worst, status)
    if worst < USAGE_EXIT:
        whole = merged(parts)
        write_results(joined, whole.environment, whole.records)
    return worst
