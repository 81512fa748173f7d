"""What the emulator lacks, and what ttnn lacks too, is said in words; the list of ttnn's names is held against the real one."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.emulator
from harness.emulator import DeviceError, api
from harness.emulator.runtime.dispatch import CALLS
from harness.emulator.spec.signatures import known

ROOT = Path(__file__).parents[3]
FILE = Path(harness.emulator.__file__).parent / "spec" / "ttnn_api.txt"


@pytest.fixture(scope="module")
def x() -> Any:
    device = api.open_mesh_device(api.MeshShape(1, 1))
    yield api.from_torch(torch.ones(1, 1, 32, 32), dtype=api.bfloat16, layout=api.TILE_LAYOUT, device=device)
    api.close_mesh_device(device)


def test_the_list_is_what_the_installed_ttnn_has() -> None:
    """Written anew from the real ttnn, the file is the same."""
    try:
        metadata.version("ttnn")
    except metadata.PackageNotFoundError:
        pytest.skip("ttnn is not installed: its list of names is not compared")
    command = [sys.executable, str(ROOT / "scripts" / "ttnn_api.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == FILE.read_text()


@pytest.mark.parametrize("name", CALLS)
def test_an_op_takes_nothing_that_ttnn_does_not(name: str) -> None:
    """Its arguments are ttnn's, by name, and in ttnn's order by place."""
    mine = inspect.signature(CALLS[name]).parameters.values()
    signatures = known()[name]
    theirs = {argument for each in signatures for argument in each.arguments}
    assert {each.name for each in mine if each.kind is not each.VAR_POSITIONAL} <= theirs
    places = tuple(each.name for each in mine if each.kind is each.POSITIONAL_OR_KEYWORD)
    assert any(each.by_place[: len(places)] == places for each in signatures)


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_that_an_op_lacks_is_refused_by_name(name: str) -> None:
    """One of ttnn's, with a value that is not its default, before the op looks at anything; one of nobody's, too."""
    mine, own = inspect.signature(CALLS[name]).parameters, CALLS[name].__qualname__
    for each in known()[name]:
        for argument in each.arguments.keys() - mine.keys():
            words = f"{own}: the emulator does not model argument {argument}, which ttnn takes; try --tt-target shadow"
            with pytest.raises(DeviceError, match=f"^{re.escape(words)}$"):
                CALLS[name](**{argument: object()})
    with pytest.raises(TypeError, match=rf"^{own}: unexpected argument 'nobodys'; ttnn takes \w+"):
        CALLS[name](nobodys=1)


def test_a_default_says_nothing(x: Any) -> None:
    """An argument that is not modelled passes with ttnn's own default, by keyword and by place."""
    assert api.add(x, x, sub_core_grids=None).shape == x.shape
    assert api.sum(x, dim=-1, correction=None, fast_and_approximate_mode=False).shape == [1, 1, 32]
    assert api.exp(x, fast_and_approximate_mode=False).shape == x.shape
    assert api.to_layout(x, api.ROW_MAJOR_LAYOUT, None, None, None).layout is api.ROW_MAJOR_LAYOUT
    with pytest.raises(
        DeviceError, match=r"^ttnn\.exp: the emulator does not model argument fast_and_approximate_mode"
    ):
        api.exp(x, fast_and_approximate_mode=True)
    with pytest.raises(
        DeviceError, match=r"^ttnn\.to_layout: the emulator does not model argument sub_core_grids"
    ):
        api.to_layout(x, api.ROW_MAJOR_LAYOUT, None, None, object())


def test_too_many_by_place_are_counted(x: Any) -> None:
    """More than ttnn takes: Python's kind of error, with both numbers."""
    with pytest.raises(TypeError, match=r"^ttnn\.silu: takes at most 1 arguments by place, got 3$"):
        api.silu(x, None, None)


def test_a_name_of_ttnn_comes_with_advice() -> None:
    """A name that ttnn has, and one that it has not, in submodules too."""
    for missing in ("conv2d", "group_norm", "GeluVariant"):
        with pytest.raises(
            AttributeError,
            match=rf"^the emulator does not model ttnn\.{missing}, which ttnn has; try --tt-target shadow$",
        ):
            getattr(api, missing)
    with pytest.raises(
        AttributeError, match=r"ttnn\.transformer\.\w+, which ttnn has; try --tt-target shadow$"
    ):
        _ = api.transformer.chunked_scaled_dot_product_attention
    with pytest.raises(
        AttributeError, match=r"^the emulator does not model ttnn\.nothing; nor does ttnn have it$"
    ):
        _ = api.nothing
    assert not hasattr(api, "__wrapped__")
