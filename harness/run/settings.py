"""`[tool.tt-harness]` of a project's pyproject.toml: what its runs use where no option says otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError

FILE = "pyproject.toml"
TABLE = "tool.tt-harness"
# A setting -> the types its value may have. Each is the option --tt-<name> of pytest, and --<name> of tt-harness.
SETTINGS: Mapping[str, tuple[type, ...]] = {
    "target": (str,),
    "mesh": (str,),
    "model": (str,),
    "precision": (str,),
    "goldens": (str,),
    "corpus": (str,),
    "baselines": (str,),
    "emulator-mode": (str,),
    "strict": (bool,),
    "data-parallel": (int,),
    "time-limit": (int, float),
}

Value = str | bool | int | float


def read_settings(folder: Path) -> dict[str, Value]:
    """The settings of a project's folder by name, none where it has no such table.

    Raises UserError, one line, for a file that cannot be read, an unknown setting and a value of another type.
    """
    path = folder / FILE
    try:
        text = path.read_bytes()
    except OSError:
        return {}  # whose file it is finds out elsewhere
    if TABLE.encode() not in text:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # which pytest needs on that Python

    try:
        table = tomllib.loads(text.decode()).get("tool", {}).get("tt-harness", {})
    except ValueError as error:
        raise UserError(f"{path}: not a TOML file ({error})") from error
    if not isinstance(table, dict):
        raise UserError(f"{path}: [{TABLE}] is {table!r}, it must be a table")
    for name, value in table.items():
        if name not in SETTINGS:
            raise UserError(f"{path}: [{TABLE}] has {name!r}; it may have {', '.join(SETTINGS)}")
        # A bool is an int in Python, and no number here.
        if not isinstance(value, SETTINGS[name]) or isinstance(value, bool) != (SETTINGS[name] == (bool,)):
            types = " or ".join(one.__name__ for one in SETTINGS[name])
            raise UserError(f"{path}: [{TABLE}] {name} = {value!r}, it must be {types}")
    return dict(table)
