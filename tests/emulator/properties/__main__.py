"""The long run: `python -m tests.emulator.properties --examples N --seed S [family ...]`. Exit status 1 for an unexplained difference."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tests.emulator.properties.judging import Family, Tally, opened
from tests.emulator.properties.running import surveyed


def families() -> dict[str, Family]:
    """Every module's family, by name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.emulator.properties.{path.stem}")
        found[module.FAMILY.name] = module.FAMILY
    return found


def main() -> int:
    known = families()
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.properties", description=__doc__)
    parser.add_argument("family", nargs="*", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--examples", type=int, default=2000, help="calls a family")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    unknown = set(asked.family) - known.keys()
    if unknown:
        parser.error(f"no family {sorted(unknown)}: there are {', '.join(known)}")
    tally = Tally()
    for family in [known[name] for name in asked.family or known]:
        with opened(family.mesh) as (emulator, real):
            surveyed(family, asked.examples, asked.seed, emulator, real, tally)
    for (op, outcome, _), (count, call, verdict) in sorted(
        tally.differences.items(), key=lambda d: str(d[0])
    ):
        print(f"{op}: {outcome.value}, {count} times, such as\n    {call}\n    {verdict.said}")
    print("\n".join(tally.lines()))
    print(
        f"{len(tally.differences)} kinds of difference unexplained (--seed {asked.seed} --examples {asked.examples})"
    )
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
