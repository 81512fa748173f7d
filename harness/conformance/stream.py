"""The same model under two targets: does the emulator take the same ops, and give the same specs, as the real ttnn?

Each target runs in a process of its own (`python -m harness.conformance.stream`), because only one can answer `import ttnn`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer

PREFILL = 128
POSITIONS = (5, -1, 40)  # of a decode step: a user, a row without one, another user
TIME_LIMIT = 600  # seconds a target's run may take, cold kernel caches included


class StreamError(RuntimeError):
    """A target's run ended badly. The message is one line: the target, and the last thing it said."""


@dataclass(frozen=True)
class Difference:
    """A place where two op streams are not the same; None for a stream that has ended."""

    index: int
    emulator: dict[str, Any] | None
    real: dict[str, Any] | None

    def __str__(self) -> str:
        ours, theirs = self.emulator or {}, self.real or {}
        fields = [name for name in ("name", "inputs", "outputs") if ours.get(name) != theirs.get(name)]
        difference = "; ".join(
            f"{name}: emulator {ours.get(name)}, ttnn {theirs.get(name)}" for name in fields
        )
        return f"op {self.index} ({theirs.get('name') or ours.get('name')}): {difference}"


def stream(target: str, mesh: str, model: str, precision: str) -> list[dict[str, Any]]:
    """The op log of a prefill of 128 tokens and one decode step, as plain values. Raises StreamError."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.json"
        command = [
            sys.executable,
            "-m",
            "harness.conformance.stream",
            target,
            mesh,
            model,
            precision,
            str(log),
        ]
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise StreamError(f"target {target}: no op stream within {TIME_LIMIT} s") from error
        if process.returncode:
            lines = (process.stderr or process.stdout).strip().splitlines()
            last_line = lines[-1] if lines else "nothing"
            raise StreamError(
                f"target {target}: ended with status {process.returncode}, and said: {last_line}"
            )
        records: list[dict[str, Any]] = json.loads(log.read_text(encoding="utf-8"))
        return records


def differences(emulator: list[dict[str, Any]], real: list[dict[str, Any]]) -> list[Difference]:
    """Every place where the two streams are not the same; none if they are the same op by op."""
    pairs = enumerate(zip_longest(emulator, real))
    return [Difference(index, ours, theirs) for index, (ours, theirs) in pairs if ours != theirs]


def main(
    target: str,
    mesh: str,
    model: str,
    precision: str,
    log: Annotated[Path, typer.Argument(help="JSON to write")],
) -> None:
    """Run the model once under a target and write its op log."""
    from harness.targets import TARGETS, activate

    activate(target, mesh=mesh, mode="fast" if TARGETS[target].modes else None)  # no values are looked at
    import torch
    import ttnn

    import tt_llm
    from harness.emulator import op_names
    from harness.run.session import DummyCheckpoint
    from harness.ttnn_calls.op_log import recorded
    from tt_llm.checkpoint import locate
    from tt_llm.mesh import open_mesh, parse_mesh_shape

    device = open_mesh(parse_mesh_shape(mesh))
    with recorded(ttnn, op_names()) as ops:
        weights = DummyCheckpoint(locate(model))
        generator = tt_llm.load(model, device, precision, max_seq_len=PREFILL, weights=weights)
        generator.prefill_forward(torch.zeros(1, PREFILL, dtype=torch.int32), all_logits=True)
        positions = torch.tensor(POSITIONS, dtype=torch.int32)
        tokens = torch.zeros(len(POSITIONS), 1, dtype=torch.int32)
        generator.decode_forward(tokens, positions, enable_trace=False)
    log.write_text(json.dumps([record.to_json() for record in ops]), encoding="utf-8")
    ttnn.close_mesh_device(device)


if __name__ == "__main__":
    from harness.errors import ending

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    with ending():
        app()
