"""Makes the tasks' data files from the facts: `python -m harness.evaluation.tasks.make_data`. Equal runs, equal files."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.evaluation.tasks import DATA, facts, texts

SEED = 2026
SUMS = 40  # questions of each kind of arithmetic
FEWSHOT = 5  # questions kept for examples

# How each table is asked.
QUESTIONS = {
    "What is the capital of {}?": facts.CAPITALS,
    "What is the chemical symbol of {}?": facts.SYMBOLS,
    "What is the opposite of {}?": facts.OPPOSITES,
    "What is a young {} called?": facts.YOUNG,
    "What colour is {}?": facts.COLOURS,
    "Which language do most people in {} speak?": facts.LANGUAGES,
    "What do you use to {}?": facts.TOOLS,
}

Row = dict[str, object]


def choice_rows() -> list[Row]:
    """Every fact with three wrong answers from its own table, and sums with three numbers near the right one."""
    draw = random.Random(SEED)
    rows = []
    for question, table in QUESTIONS.items():
        pairs = facts.pairs(table)
        for subject, answer in pairs:
            wrong = sorted({other for _, other in pairs} - {answer})
            rows.append(_choice(draw, question.format(subject), answer, draw.sample(wrong, 3)))
    for question, right in _sums(draw):
        near = [right + step for step in (-10, -3, -2, -1, 1, 2, 3, 10) if right + step >= 0]
        rows.append(_choice(draw, question, str(right), [str(number) for number in draw.sample(near, 3)]))
    draw.shuffle(rows)
    return _split(rows)


def exact_rows() -> list[Row]:
    """Facts with one answer, and sums, asked openly."""
    draw = random.Random(SEED)
    rows: list[Row] = [
        {"question": question.format(subject), "answer": answer}
        for question, table in QUESTIONS.items()
        for subject, answer in facts.pairs(table)
        if table not in (facts.COLOURS, facts.TOOLS)
    ]
    rows += [{"question": question, "answer": str(right)} for question, right in _sums(draw)[:SUMS]]
    draw.shuffle(rows)
    return _split(rows)


def completion_rows() -> list[Row]:
    """Sentences without their last word."""
    return [
        {"split": "test", "beginning": beginning, "ending": ending} for beginning, ending in facts.endings()
    ]


def text_rows() -> list[Row]:
    """Paragraphs."""
    return [{"split": "test", "text": text} for text in texts.paragraphs()]


ROWS = {"choice": choice_rows, "completion": completion_rows, "exact": exact_rows, "text": text_rows}


def write(folder: Path) -> None:
    """Writes every task's rows, one JSON object a line."""
    for name, rows in ROWS.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sums(draw: random.Random) -> list[tuple[str, int]]:
    """Questions of arithmetic and their answers, none twice: SUMS each of sums, differences and products."""
    kinds: dict[str, tuple[Callable[[int, int], int], int]] = {  # with the largest number asked for
        "What is {} plus {}?": (operator.add, 50),
        "What is {} minus {}?": (operator.sub, 50),
        "What is {} times {}?": (operator.mul, 12),
    }
    asked: dict[str, int] = {}
    for words, (answer, most) in kinds.items():
        total = len(asked) + SUMS
        while len(asked) < total:
            b, a = sorted((draw.randint(1, most), draw.randint(1, most)))
            asked[words.format(a, b)] = answer(a, b)
    questions = list(asked.items())
    draw.shuffle(questions)
    return questions


def _choice(draw: random.Random, question: str, right: str, wrong: Iterable[str]) -> Row:
    choices = [right, *wrong]
    draw.shuffle(choices)
    return {"question": question, "choices": choices, "answer": choices.index(right)}


def _split(rows: list[Row]) -> list[Row]:
    return [{"split": "fewshot" if place < FEWSHOT else "test", **row} for place, row in enumerate(rows)]


if __name__ == "__main__":
    write(DATA)
