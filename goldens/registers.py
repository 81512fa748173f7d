"""Texts of different register, and the rolling windows over them: what a model must predict beyond one kind of prose.

Each is on every machine: shipped with CPython, committed here (public domain), or written by a seeded generator. A text
longer than a window is read as lm-eval's rolling log-likelihood reads it: windows overlap, the tokens of the overlap are
context only, and each token but the text's first is scored exactly once.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import inspect
import json
import random
from collections.abc import Callable
from typing import Any

import torch

from goldens.errors import CorpusError

WINDOWS = 2  # of each text
CONTEXT = 64  # tokens that a window repeats of the one before
SEED = 7

NAMES = ("Ada", "Boris", "Chen", "Dalia", "Emeka", "Freya", "Goran", "Hana")
GOODS = ("apples", "bolts", "candles", "drills", "envelopes", "filters", "gloves", "hinges")


def _reference() -> str:
    from pydoc_data.topics import topics

    return str(topics["types"])


def _docstrings() -> str:
    import statistics

    names = (name for name in statistics.__all__ if callable(getattr(statistics, name)))
    return "\n\n".join(f"{name}\n\n{inspect.getdoc(getattr(statistics, name))}" for name in names)


def _code() -> str:
    import heapq

    return inspect.getsource(heapq.merge) + "\n\n" + inspect.getsource(heapq.nsmallest)


def _committed(name: str) -> str:
    return (importlib.resources.files("goldens") / "texts" / f"{name}.txt").read_text(encoding="utf-8")


def _arithmetic(pick: Callable[[int], int]) -> str:
    lines = []
    for _ in range(80):
        a, b = pick(900) + 10, pick(90) + 2
        lines.append(f"{a} + {b} = {a + b}, {a} - {b} = {a - b}, {a} x {b} = {a * b}.")
    return "\n".join(lines)


def _table(pick: Callable[[int], int]) -> str:
    rows = ["| item | stock | price | total |", "|---|---|---|---|"]
    for _ in range(70):
        stock, cents = pick(200) + 1, pick(5000) + 25
        rows.append(f"| {GOODS[pick(8)]} | {stock} | {cents / 100:.2f} | {stock * cents / 100:.2f} |")
    return "\n".join(rows)


def _dialogue(pick: Callable[[int], int]) -> str:
    turns = []
    for _ in range(40):
        asks, answers = NAMES[pick(8)], NAMES[pick(8)]
        count, goods, day = pick(40) + 2, GOODS[pick(8)], ("Monday", "Tuesday", "Friday")[pick(3)]
        turns.append(f"{asks}: Could you bring me {count} {goods} on {day}, please?")
        turns.append(
            f"{answers}: I have only {max(1, count - pick(5))} {goods} left, {asks}. Is {day} early enough?"
        )
    return "\n".join(turns)


def _log(pick: Callable[[int], int]) -> str:
    lines = []
    for second in range(60):
        fields = {
            "time": f"2024-03-01T09:{second:02d}:{pick(60):02d}Z",
            "level": ("info", "warning", "error")[pick(3)],
            "worker": pick(16),
            "message": f"{('read', 'wrote', 'skipped')[pick(3)]} {GOODS[pick(8)]}.json",
            "bytes": pick(100_000),
        }
        lines.append(json.dumps(fields))
    return "\n".join(lines)


_SHIPPED: dict[str, Callable[[], str]] = {
    "reference": _reference,
    "docstrings": _docstrings,
    "code": _code,
    "story": functools.partial(_committed, "story"),
    "law": functools.partial(_committed, "law"),
}
_WRITTEN: dict[str, Callable[[Callable[[int], int]], str]] = {
    "arithmetic": _arithmetic,
    "table": _table,
    "dialogue": _dialogue,
    "log": _log,
}
REGISTERS = (*_SHIPPED, *_WRITTEN)
N_WINDOWS = WINDOWS * len(REGISTERS)


def _picker(seed: str) -> Callable[[int], int]:
    """pick(n) draws from 0 to n - 1. Only random() promises the same numbers in every version of Python."""
    rng = random.Random(seed)
    return lambda n: int(rng.random() * n)


@functools.cache
def register_texts() -> dict[str, str]:
    """Each register's text by name.

    Raises CorpusError where this Python ships without its documentation or sources.
    """
    try:
        texts = {name: text() for name, text in _SHIPPED.items()}
    except (ImportError, OSError) as error:
        raise CorpusError(
            f"the reference texts need CPython's own documentation and sources: {error}"
        ) from error
    for name, write in _WRITTEN.items():
        texts[name] = write(_picker(f"{SEED} {name}"))
    return texts


@functools.cache
def registers_digest() -> str:
    """SHA-256 of all texts and of how they are cut."""
    parts = [register_texts(), WINDOWS, CONTEXT]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def register_windows(tokenizer: Any, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows over all texts, in the order of `REGISTERS`: tokens [N_WINDOWS, length] int64, and which rows are scored, bool.

    Row i of a window predicts its token i + 1. The last row predicts none of the window's.
    Raises CorpusError for a text too short for its windows.
    """
    stride = length - CONTEXT
    if stride < 1:
        raise CorpusError(f"windows of {length} tokens: {CONTEXT} are context, so they must be longer")
    needed = CONTEXT + WINDOWS * stride
    windows, scored = [], []
    for name in REGISTERS:
        ids = tokenizer(register_texts()[name], add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) < needed:
            raise CorpusError(f"the text of register {name} has {len(ids)} tokens, {needed} are needed")
        for window in range(WINDOWS):
            start = window * stride
            windows.append(torch.tensor(ids[start : start + length], dtype=torch.int64))
            rows = torch.arange(length)
            scored.append((rows < length - 1) & (rows >= (CONTEXT - 1 if window else 0)))
    return torch.stack(windows), torch.stack(scored)
