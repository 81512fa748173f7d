"""A target named in the environment: `import ttnn` activates it, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.targets.environment import VARIABLE, arguments

HOOKED = "from harness.targets import activate, active, environment; environment.install(); "


def python(code: str, target: str) -> subprocess.CompletedProcess[str]:
    """A process with a target in its environment and the hook in place."""
    return subprocess.run(
        [sys.executable, "-c", HOOKED + code],
        capture_output=True,
        text=True,
        env={**os.environ, VARIABLE: target},
    )


def test_the_text_is_what_activate_takes() -> None:
    """The target's name, and what else is to be said."""
    assert arguments("emulator mesh=1x2  mode=fast") == {"name": "emulator", "mesh": "1x2", "mode": "fast"}
    assert arguments("dryrun") == {"name": "dryrun"}


@pytest.mark.parametrize("text", ["", "mesh=1x2", "emulator 1x2", "emulator mesh=", "emulator speed=fast"])
def test_other_text_is_refused(text: str) -> None:
    """In one line, with the text and what would be right."""
    with pytest.raises(ValueError, match=r"^TT_HARNESS_TARGET '.*': give a target") as caught:
        arguments(text)
    assert repr(text) in str(caught.value)


def test_importing_ttnn_activates_it() -> None:
    """With its arguments; that ttnn can be found, which programs ask, activates nothing yet."""
    done = python(
        "import importlib.util, sys; assert importlib.util.find_spec('ttnn') and 'ttnn' not in sys.modules; "
        "import ttnn; a = active(); print(ttnn.__spec__.name, a.name, a.mesh, a.mode, ttnn.get_num_devices())",
        "emulator mesh=1x2 mode=exact",
    )
    assert done.stdout.split() == ["harness.emulator.api", "emulator", "1x2", "exact", "2"], done.stderr


def test_a_target_activated_by_name_goes_before_it() -> None:
    """As a test run's own."""
    done = python(
        "activate('emulator', mode='fast'); import ttnn; print(active().mode)", "emulator mode=exact"
    )
    assert done.stdout.split() == ["fast"], done.stderr


def test_what_cannot_be_activated_is_said_where_it_is_imported() -> None:
    """On stderr too: a program that asks whether ttnn is there may take the error for a no."""
    done = python(
        "try:\n    import ttnn\nexcept ValueError: print('no')".replace("try", "\ntry"), "emulator mesh=9x9"
    )
    assert done.stdout.split() == ["no"]
    assert done.stderr.startswith("TT_HARNESS_TARGET: mesh '9x9'")
