"""The offline tasks: their data is what the script makes, and lm-eval takes them."""

from __future__ import annotations

from pathlib import Path

from lm_eval.tasks import TaskManager

from harness.evaluation.tasks import DATA, FOLDER
from harness.evaluation.tasks.make_data import choice_rows, write

TASKS = ["tt_choice", "tt_completion", "tt_exact", "tt_text"]


def test_data_is_what_the_script_makes(tmp_path: Path) -> None:
    write(tmp_path)
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert files == {file.name: file.read_text() for file in DATA.iterdir()}


def test_questions_have_one_right_answer_of_four() -> None:
    rows = choice_rows()
    assert sum(row["split"] == "test" for row in rows) >= 200
    assert len({row["question"] for row in rows}) == len(rows)
    for row in rows:
        choices, answer = row["choices"], row["answer"]
        assert isinstance(choices, list)
        assert len(set(choices)) == 4
        assert answer in range(4)
    places = [row["answer"] for row in rows]
    assert all(places.count(place) > len(rows) / 6 for place in range(4))


def test_lm_eval_takes_them() -> None:
    loaded = TaskManager(include_path=str(FOLDER), include_defaults=False).load(["tt_offline"])
    tasks = loaded["tasks"]
    assert sorted(tasks) == TASKS
    for task in tasks.values():
        assert len(task.eval_docs) >= 16
    tasks["tt_choice"].build_all_requests(limit=1, rank=0, world_size=1)
    first = tasks["tt_choice"].instances
    assert len(first) == 4
    assert first[0].args[0].count("Question:") == 6  # five examples before it
    assert all(instance.args[1].startswith(" ") for instance in first)
