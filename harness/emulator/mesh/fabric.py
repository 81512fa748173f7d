"""The links between the devices of a mesh, as far as they decide what a collective computes."""

from __future__ import annotations

from harness.emulator.errors import refuse
from harness.emulator.spec.types import FabricConfig

_config = FabricConfig.DISABLED


def set_fabric_config(config: FabricConfig, *_: object, **__: object) -> None:
    """To be called before a mesh of several devices is opened, as in ttnn."""
    global _config
    _config = config


def require_fabric(op: str) -> None:
    """Refuses a collective where no fabric was set up."""
    if _config is FabricConfig.DISABLED:
        refuse(
            op, "no fabric: call ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D) before opening the mesh"
        )


def is_ring() -> bool:
    """Whether the devices form a ring; else a line."""
    return _config is FabricConfig.FABRIC_1D_RING
