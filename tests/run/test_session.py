"""What a session of tests holds loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.run.options import Options
from harness.run.session import Session


@pytest.fixture
def session(model: Path) -> Iterator[Session]:
    session = Session(Options(model=str(model), model_given=True))
    yield session
    session.close()


def test_modules_do_not_load_the_model(session: Session) -> None:
    """One for all tests of a policy; a module test of a large model needs that module's memory."""
    modules = session.modules("accuracy")
    modules.layer(1)
    assert "embedding" not in vars(modules)
    assert "lm_head" not in vars(modules)
    assert session.modules("accuracy") is modules


def test_modules_of_a_loaded_model_are_its_own(session: Session) -> None:
    """Nothing is held twice, and another policy's takes the place of what was held."""
    alone = session.modules("accuracy")
    generator = session.generator("accuracy")
    assert session.modules("accuracy") is generator.model.modules is not alone
    session.modules("performance")
    assert session.generator("accuracy") is not generator
