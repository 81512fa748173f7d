"""Where in the model an op call comes from: module, layer, and line of code."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from harness.ttnn_calls.call_sites import callers

_OURS = str(Path(__file__).parent)
LAYER_MODULES = ("attention_norm", "attention", "mlp_norm", "mlp")
TOP_MODULES = ("embedding", "final_norm", "lm_head")


@dataclass(frozen=True)
class Place:
    """`module` is "model" where no module's own code calls; `line` is "tt_llm/modules/mlp.py:44", `code` what stands there."""

    module: str
    layer: int | None
    line: str
    code: str

    def __str__(self) -> str:
        return self.module if self.layer is None else f"{self.module} of layer {self.layer}"


class Places:
    """Finds the place of the call that is running, by the objects whose methods are on the stack."""

    def __init__(self, model: Any) -> None:
        self._names: dict[int, tuple[str, int | None]] = {
            id(getattr(model, name)): (name, None) for name in TOP_MODULES
        }
        self._names |= {id(rope): ("rope", None) for rope in model.ropes}
        for index, layer in enumerate(model.layers):
            self._names[id(layer)] = "decoder", index
            self._names |= {id(getattr(layer, name)): (name, index) for name in LAYER_MODULES}

    def here(self) -> Place:
        """The innermost module on the stack, the layer it is called for, and the line in its file, or in the model's."""
        module, layer = "model", None
        nearest: FrameType | None = None
        in_module: FrameType | None = None
        for caller in callers(sys._getframe(1)):
            if caller.f_code.co_filename.startswith(_OURS):
                continue
            nearest = nearest or caller
            name, index = self._names.get(id(caller.f_locals.get("self")), ("", None))
            if name and in_module is None:
                module, in_module = name, caller
            if layer is None:
                layer = index
        frame = in_module or nearest
        if frame is None:
            return Place(module, layer, "", "")
        file, number = frame.f_code.co_filename, frame.f_lineno
        short = "/".join(Path(file).parts[-3:])
        return Place(module, layer, f"{short}:{number}", linecache.getline(file, number).strip())
