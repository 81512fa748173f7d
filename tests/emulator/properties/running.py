"""Drawing a family's calls with hypothesis: until one differs, or all of them for a table."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity

from tests.emulator.properties.calls import Call
from tests.emulator.properties.judging import Emulator, Family, Tally, judged
from tests.emulator.properties.real import RealTtnn


def checked(family: Family, examples: int, seed: int, emulator: Emulator, real: RealTtnn) -> None:
    """Raises AssertionError for the smallest call found that differs and is not explained."""

    def judge(call: Call) -> None:
        verdict = judged(family, call, emulator, real)
        assert verdict.stands, f"{verdict.outcome.value}: {call}\n{verdict.said}\n(TT_PROPERTY_SEED={seed})"

    _drawn(family, examples, seed, judge, (Phase.generate, Phase.shrink))


def surveyed(
    family: Family, examples: int, seed: int, emulator: Emulator, real: RealTtnn, tally: Tally
) -> None:
    """Counts every call's outcome."""
    _drawn(
        family,
        examples,
        seed,
        lambda call: tally.add(call, judged(family, call, emulator, real)),
        (Phase.generate,),
    )


def _drawn(
    family: Family, examples: int, seed: int, judge: Callable[[Call], None], phases: tuple[Phase, ...]
) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        phases=phases,
        deadline=None,
        database=None,
        print_blob=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    hypothesis.seed(seed)(settings(hypothesis.given(family.calls)(judge)))()
