"""Under `--dist loadgroup` tests that share a model share a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.run.worker_groups import without_group

TESTS = """
import os, pathlib, pytest

@pytest.mark.tt_golden("mlp", layer=0, seq_len=[32, 64])
@pytest.mark.parametrize("again", range(2), ids=["performance", "accuracy"])  # ids say nothing of the policy
def test_mlp(tt_module, golden, compare, tt_precision, again):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    pathlib.Path(f"{tt_precision}-{again}-{len(golden.inputs['x'][0])}").write_text(worker)
    compare(tt_module(golden.inputs), golden.output)

def test_a_figure_of_its_own(recorder):
    recorder.judge({"kl": 0.001}, n=5)

@pytest.mark.skip(reason="needs a card")
def test_skipped(recorder):
    pass
"""


def sort(records: list[dict[str, Any]]) -> list[str]:
    return sorted(str(record) for record in records)


def test_loadgroup_keeps_a_policys_tests_in_one_worker(judge, tmp_path: Path) -> None:
    """And the records are those of one process."""
    options = ("--tt-precision=accuracy,performance",)
    alone = judge(TESTS, *options)
    assert len(alone.records) == 2 * 2 * 2 * 6 + 2
    result = judge(TESTS, *options, "-n2", "--dist=loadgroup")
    assert result.status == alone.status
    assert sort(result.records) == sort(alone.records)
    workers = [
        {file.read_text() for file in tmp_path.glob(f"{policy}-*")} for policy in ("accuracy", "performance")
    ]
    assert [len(each) for each in workers] == [1, 1]
    assert workers[0] != workers[1]


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("a/test_b.py::test_c@1x1-accuracy", "a/test_b.py::test_c"),
        ("a/test_b.py::test_c[x@y]@1x1-accuracy", "a/test_b.py::test_c[x@y]"),
        ("a/test_b.py::test_c[x@y]", "a/test_b.py::test_c[x@y]"),
        ("a@b/test_b.py::test_c", "a@b/test_b.py::test_c"),
        ("a/test_b.py::test_c", "a/test_b.py::test_c"),
    ],
)
def test_a_tests_own_name(nodeid: str, name: str) -> None:
    assert without_group(nodeid) == name
