"""What the plugin keeps on pytest's config: a key for each thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # of these nothing is imported in a run that does not ask for the harness
    from harness.run.journal import Journal
    from harness.run.options import Options
    from harness.run.outcomes import Outcomes
    from harness.run.session import Session
    from harness.run.time_shares import Spent
    from harness.run.value_sources import Gathered

OPTIONS: pytest.StashKey[Options] = pytest.StashKey()
SESSION: pytest.StashKey[Session] = pytest.StashKey()
OUTCOMES: pytest.StashKey[Outcomes] = pytest.StashKey()
JOURNAL: pytest.StashKey[Journal] = pytest.StashKey()
SPENT: pytest.StashKey[Spent] = pytest.StashKey()
SOURCES: pytest.StashKey[Gathered] = pytest.StashKey()
FAULT = pytest.StashKey[str]()  # why the run cannot start, or its results cannot be written; one line
