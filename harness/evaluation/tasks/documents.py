"""The tasks' documents, as lm-eval asks for them: `custom_dataset` of each YAML file here."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow
from datasets import Dataset

from harness.evaluation.tasks import DATA


def choice(**_: Any) -> dict[str, Dataset]:
    """Questions with four answers each."""
    return _splits("choice")


def completion(**_: Any) -> dict[str, Dataset]:
    """Beginnings of sentences, and their last words."""
    return _splits("completion")


def exact(**_: Any) -> dict[str, Dataset]:
    """Questions with one short answer."""
    return _splits("exact")


def text(**_: Any) -> dict[str, Dataset]:
    """Paragraphs."""
    return _splits("text")


def _splits(name: str) -> dict[str, Dataset]:
    content = (DATA / f"{name}.jsonl").read_bytes()
    # Given, so that datasets need not pickle the table to find one, which it cannot with every pyarrow.
    fingerprint = hashlib.sha256(content).hexdigest()[:16]
    rows = [json.loads(line) for line in content.decode().splitlines()]
    splits = dict.fromkeys(row["split"] for row in rows)
    return {
        split: Dataset(
            pyarrow.Table.from_pylist([row for row in rows if row["split"] == split]),
            fingerprint=f"{split}-{fingerprint}",
        )
        for split in splits
    }
