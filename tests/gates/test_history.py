"""Steps in a series of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.gates.history import read, steps
from harness.results.schema import ResultsError


def noisy(*levels: float, length: int = 15, scatter: float = 0.01) -> list[float]:
    """So many runs at each level."""
    generator = np.random.default_rng(7)
    return [level * float(np.exp(generator.normal(0, scatter))) for level in levels for _ in range(length)]


def test_a_level_without_steps_has_none() -> None:
    """Noise alone, and series too short to say."""
    assert steps(noisy(1.0, 1.0)) == []
    assert steps([1.0]) == []
    assert steps([]) == []


def test_each_step_is_found_where_it_is() -> None:
    """5% slower from run 15 on, 10% faster from run 30 on."""
    first, second = steps(noisy(1.0, 1.05, 0.945))
    assert (first.index, second.index) == (15, 30)
    assert first.ratio == pytest.approx(1.05, abs=0.01)
    assert second.ratio == pytest.approx(0.9, abs=0.01)


def test_one_bad_run_is_no_step() -> None:
    """The level is the same after it."""
    series = noisy(1.0)
    series[7] *= 1.3
    assert steps(series) == []


def test_modelled_times_step_at_once() -> None:
    """Without scatter any change is one, even of the last run."""
    (step,) = steps([1.0, 1.0, 1.0, 1.001])
    assert step.index == 3


def test_a_folder_that_holds_no_history(tmp_path: Path) -> None:
    """One line that names it."""
    with pytest.raises(ResultsError, match="no such folder"):
        read(tmp_path / "none")
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ResultsError, match=r"a\.jsonl is not a history file"):
        read(tmp_path)
