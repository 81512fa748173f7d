"""Single op calls, legal and illegal, with what the real ttnn 0.81.1 answered to each.

`cases.json`, and `ranks.json` for ops over tensors of any rank: name -> the call as Python, and its outcome: the result's
spec, or "refused". `names.py`: what the calls refer to. Both are data for a target: `python -m harness.conformance.calls TARGET FILE` answers all of them and writes the outcomes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CASES: dict[str, dict[str, str]] = {
    name: case
    for file in ("cases.json", "ranks.json")
    for name, case in json.loads((FOLDER / file).read_text(encoding="utf-8")).items()
}
# ttnn takes these and reads past what it was given; the emulator has no such memory to read and refuses.
STRICTER = {"upd heads"}


def scope(ttnn: Any) -> dict[str, Any]:
    """The names the calls use, on an opened device of whatever answers as `ttnn`."""
    import torch

    names: dict[str, Any] = {
        "ttnn": ttnn,
        "torch": torch,
        "device": ttnn.open_mesh_device(ttnn.MeshShape(1, 1)),
    }
    exec((FOLDER / "names.py").read_text(encoding="utf-8"), names)
    return names
