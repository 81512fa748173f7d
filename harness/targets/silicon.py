"""Cards as a target: the real ttnn, on the device itself.

How many devices the cards have, and which, only ttnn can say, and for that it opens them. A process of its own asks: cards are
one process's at a time, and of a run's processes it is the worker's turn, not the one's that waits for it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from harness.targets import wheel
from harness.targets.target import Target
from harness.ttnn_calls.refusals import reason

NODES = Path("/dev/tenstorrent")  # the driver's device files, one a card
TIME_LIMIT = 60  # seconds; ttnn waits without end for a card that another process has open
# What chooses among the cards is its user's word, and stays.
CHOICES = ("TT_METAL_VISIBLE_DEVICES", "TT_VISIBLE_DEVICES", "TT_MESH_GRAPH_DESC_PATH")
_MESH = re.compile(r"([1-9]\d*)x([1-9]\d*)")
_ASK = """
import json, ttnn
try:
    answer = {"devices": ttnn.get_num_devices(), "arch": ttnn.get_arch_name()}
except RuntimeError as error:
    answer = {"fault": str(error)}
print(json.dumps(answer))
"""


def activate(mesh: str, arch: str) -> str:
    """Imports ttnn so that it opens the cards. Returns one line on what computes.

    Raises ValueError, one line, where there is no ttnn or no card, for a mesh of more devices than there are, for cards of
    another architecture, and for cards that do not answer.
    """
    shape = _MESH.fullmatch(mesh)
    if shape is None:
        raise ValueError(f"mesh {mesh!r}: give rows x columns, such as 1x1")
    _, version = wheel.installed("silicon")
    if not NODES.is_dir() or not any(NODES.iterdir()):
        raise ValueError(
            f"target 'silicon': there is no card: nothing in {NODES}, where Tenstorrent's driver, tt-kmd, lists them"
        )
    wheel.point({}, wheel.own_folder("silicon"), exempt=CHOICES)
    devices, cards = _cards()
    if cards != arch:
        raise ValueError(f"arch {arch!r}: the cards here are {cards}")
    count = int(shape[1]) * int(shape[2])
    if count > devices:
        raise ValueError(f"mesh {mesh!r}: needs {count} devices, the cards here have {devices}")
    wheel.imported("silicon", version)
    return f"{devices} {arch} device{'s' * (devices > 1)}, ttnn {version}"


def _cards() -> tuple[int, str]:
    """How many devices there are, and their architecture."""
    command = [sys.executable, "-c", _ASK]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"target 'silicon': the cards did not answer within {TIME_LIMIT} s: another process may have them open"
        ) from None
    # ttnn may log between the answers
    answers = [line for line in process.stdout.splitlines() if line.startswith("{")]
    if process.returncode == 0 and answers:
        answer = json.loads(answers[-1])
    else:
        lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
        answer = {"fault": lines[-1] if lines else f"exit status {process.returncode}"}
    if "fault" in answer:
        raise ValueError(f"target 'silicon': ttnn cannot open the cards ({reason(answer['fault'])})")
    return answer["devices"], answer["arch"]


TARGET = Target(activate, computes=True, native=True, card=True, expected=lambda: NODES.exists())
