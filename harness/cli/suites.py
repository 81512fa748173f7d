"""The suites that a run can take: one for each folder of `suites/`, and two that join several of them."""

from __future__ import annotations

from harness import project_folder

QUICK = ("modules", "model", "metamorphic", "accuracy")  # of the demo, which leaves out the tests marked slow


def suites() -> dict[str, tuple[str, ...]]:
    """Name of a suite -> the folders of `suites/` whose tests it runs."""
    packages = project_folder("suites").glob("*/__init__.py")
    others = sorted(package.parent.name for package in packages if package.parent.name not in QUICK)
    folders = (*QUICK, *others)
    return {folder: (folder,) for folder in folders} | {"quick": QUICK, "all": folders}
