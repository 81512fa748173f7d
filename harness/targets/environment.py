"""A target named in the environment, in place in every process that imports ttnn: for programs that start processes of their own.

Installed, `tt_harness_target.pth` lies beside the packages and calls `install` when Python starts and the variable is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

VARIABLE = "TT_HARNESS_TARGET"  # such as "emulator mesh=1x2 mode=fast": `activate`'s arguments
ARGUMENTS = ("mesh", "arch", "mode")


def install() -> None:
    """Has the first `import ttnn` activate what the environment names, unless a target is activated before."""
    if "ttnn" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def withdraw() -> None:
    """Leaves `import ttnn` as it was: a target is put in place by name."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]


def arguments(text: str) -> dict[str, str]:
    """ "emulator mesh=1x2" -> {"name": "emulator", "mesh": "1x2"}. Raises ValueError, one line, for anything else."""
    name, *rest = text.split() or [""]
    pairs = [part.partition("=") for part in rest]
    if not name or "=" in name or any(key not in ARGUMENTS or not value for key, _, value in pairs):
        raise ValueError(
            f"{VARIABLE} {text!r}: give a target, and after it any of {', '.join(f'{key}=...' for key in ARGUMENTS)}"
        )
    return {"name": name, **{key: value for key, _, value in pairs}}


class _Finder(MetaPathFinder, Loader):
    """Finds ttnn, and loads it by activating the target. That it can be found activates nothing yet."""

    _own: ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec("ttnn", self, origin=VARIABLE) if fullname == "ttnn" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from harness.targets import activate

        try:
            activate(**arguments(os.environ.get(VARIABLE, "")))
        except ValueError as error:
            # Who asks whether ttnn is there may take any error for a no.
            print(f"{VARIABLE}: {error}", file=sys.stderr)
            raise
        module = sys.modules["ttnn"]
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run; what Python has told it of its loader is taken back."""
        module.__spec__ = self._own
