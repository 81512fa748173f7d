"""The dry run as a target: the real ttnn on a mock cluster, where every op call is checked and none is computed."""

from __future__ import annotations

from importlib import resources
from typing import Any

from harness.targets import wheel
from harness.targets.clusters import CLUSTERS
from harness.targets.standin import install
from harness.targets.target import Target


def activate(mesh: str, arch: str) -> str:
    """Imports ttnn so that it opens a mock cluster, and answers its trace calls. Returns one line on what stands in for what.

    Raises ValueError, one line, for a mesh no cluster is described for, or where there is no ttnn that can be imported.
    """
    ttnn, what = opened("dryrun", mesh, arch)
    from harness.targets.dry_traces import Traces  # whoever lists the targets needs it not

    Traces().install(ttnn)
    return what


def opened(target: str, mesh: str, arch: str) -> tuple[Any, str]:
    """ttnn, imported for a target so that it opens a mock cluster, and one line on what stands in for what.

    Raises ValueError as `activate` does.
    """
    board = CLUSTERS.get((arch, mesh))
    if board is None:
        offered = ", ".join(shape for boards_arch, shape in CLUSTERS if boards_arch == arch)
        raise ValueError(f"mesh {mesh!r}: the dry run offers {offered} on {arch}")
    package, version = wheel.installed(target)
    folder = wheel.own_folder("dryrun")  # the kernels are the same
    settings = {
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(resources.files(__package__) / "clusters" / f"{board}.yaml")
    }
    sfpi = wheel.real_sfpi(package)
    if sfpi is None:
        try:
            root = install(package, version, folder)
        except OSError as error:
            raise ValueError(f"target {target!r}: its folder {folder} cannot be written ({error})") from error
        settings |= {"TT_METAL_RUNTIME_ROOT": str(root), "TT_METAL_CACHE": f"{root}.kernels/"}
        kernels = "kernels not compiled (stand-in compiler)"
    else:
        settings["TT_METAL_CACHE"] = str(folder / f"ttnn-{version}-sfpi") + "/"
        kernels = wheel.compiled_by(sfpi)
    if mesh != "1x1":
        # With fast dispatch the chips of a mock mesh lose a row of worker cores that real ones, which dispatch from their
        # Ethernet cores, keep. One chip dispatches from worker cores, mock or real: 8x8 are left of an N150's 8x9.
        settings["TT_METAL_SLOW_DISPATCH_MODE"] = "1"
    wheel.point(settings, folder)
    return wheel.imported(target, version), f"mock {board.upper()}, ttnn {version}, {kernels}"


TARGET = Target(activate, computes=False, native=True, doctor_meshes=("1x1", "1x2", "1x8"))
