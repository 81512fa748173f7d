"""Writes what the installed ttnn offers, as harness/emulator/spec/ttnn_api.txt keeps it: run it after a change of ttnn's version.

One line per public name of the modules that the emulator has; an op that the emulator has comes with its arguments, one line for
each of its signatures. `...` stands for a default that is no literal.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from harness.emulator import op_names
from harness.targets import activate

activate("dryrun")
import ttnn  # noqa: E402 - the target comes first

_PLACEHOLDER = re.compile(r"= \\(\d+)$")  # of a default, in nanobind's signatures


def named(path: str) -> Any:
    found: Any = ttnn
    for part in path.split(".")[1:]:
        found = getattr(found, part)
    return found


def signatures(op: str) -> Iterator[str]:
    """The arguments of each signature, as Python writes them, without types."""
    function = named(op)
    function = getattr(function, "function", function)
    bound = getattr(type(function).__call__, "__nb_signature__", None) or getattr(
        function, "__nb_signature__", None
    )
    for text, _, defaults in bound or ():
        yield ", ".join(argument(each, defaults) for each in split(text) if each != "self")
    if not bound:
        plain = list(inspect.signature(function).parameters.values())
        keywords = [each for each in plain if each.kind is each.KEYWORD_ONLY]
        written = [python_argument(each) for each in plain]
        yield ", ".join(
            written[: len(plain) - len(keywords)]
            + ["*"] * bool(keywords)
            + written[len(plain) - len(keywords) :]
        )


def split(text: str) -> list[str]:
    """The arguments of a nanobind signature, whose types have commas of their own."""
    inside, depth, found = text[text.index("(") + 1 :], 0, [""]
    for letter in inside:
        depth += (letter in "[(") - (letter in "])")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [each.strip() for each in found]


def argument(text: str, defaults: Sequence[object]) -> str:
    name = text.partition(":")[0]
    default = _PLACEHOLDER.search(text)
    return name if default is None else f"{name}={literal(defaults[int(default[1])])}"


def python_argument(parameter: inspect.Parameter) -> str:
    name = parameter.name
    return name if parameter.default is parameter.empty else f"{name}={literal(parameter.default)}"


def literal(value: object) -> str:
    plain = value is None or value == [] or type(value) in (bool, int, float, str)
    return repr(value) if plain else "..."


def lines() -> Iterator[str]:
    ops = op_names()
    modules = sorted({op.rpartition(".")[0] for op in ops})
    for module in modules:
        for name in sorted(dir(named(module))):
            full = f"{module}.{name}"
            if name.startswith("_") or full in modules:
                continue
            written = [f"{full}({each})" for each in dict.fromkeys(signatures(full))] if full in ops else []
            yield from written or [full]


if __name__ == "__main__":
    print("\n".join(lines()))
