"""The real ttnn on the dry run, in a process of its own that is kept alive and answers calls, and what became of a call there.

A call is made under a graph capture without dispatch: it is checked and its result's spec made, no kernel is compiled, nothing
allocated. A call that crashes ttnn, or that it does not return from, is answered as such, and the next has a new process.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any

from harness.ttnn_calls.refusals import reason
from tests.emulator.properties.calls import Call, described

TIME_LIMIT = 30.0  # seconds for one call
START_LIMIT = 120.0  # seconds until ttnn is imported and the mesh is open


@dataclass(frozen=True)
class Answer:
    """What a call came to. `kind`: "taken", "refused", "crashed" or "hung"; `said`: the specs of the results, or the reason."""

    kind: str
    said: str


class RealTtnn:
    """Answers calls on a mesh of the dry run, such as "1x1"."""

    def __init__(self, mesh: str = "1x1") -> None:
        self._mesh = mesh
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def answer(self, call: Call) -> Answer:
        if self._process is None:
            self._start()
        assert self._pipe is not None
        assert self._process is not None
        try:
            self._pipe.send(call)
            if not self._pipe.poll(TIME_LIMIT):
                self.close()
                return Answer("hung", f"no answer within {TIME_LIMIT:g} s")
            return Answer(*self._pipe.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            status = self._process.wait(10)
            self.close()
            return Answer("crashed", f"the process ended with {status}")

    def _start(self) -> None:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "tests.emulator.properties.real", self._mesh, str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        theirs.close()
        self._pipe = ours
        if not ours.poll(START_LIMIT):
            self.close()
            raise RuntimeError(f"the real ttnn did not start within {START_LIMIT:g} s")
        ours.recv()

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
        self._process = self._pipe = None


def _answered(call: Call, ttnn: Any, device: Any) -> tuple[str, str]:
    ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NO_DISPATCH)
    try:
        return "taken", " + ".join(described(result, ttnn) for result in call.run(ttnn, device)[1])
    except Exception as error:  # whatever ttnn raises, it did not take the call
        return "refused", f"{type(error).__name__}: {reason(str(error))}"
    finally:
        ttnn.graph.end_graph_capture()


def _serve(mesh: str, pipe: Connection) -> None:
    from harness.targets import activate

    activate("dryrun", mesh=mesh)
    import ttnn

    rows, columns = map(int, mesh.split("x"))
    if rows * columns > 1:
        ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
    device = ttnn.open_mesh_device(ttnn.MeshShape(rows, columns))
    pipe.send("ready")
    while True:
        pipe.send(_answered(pipe.recv(), ttnn, device))


if __name__ == "__main__":
    _serve(sys.argv[1], Connection(int(sys.argv[2])))
