"""Each command in the documentation is one that the program takes, and those of the start-ups and of the gate do what is said."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from _pytest.config.argparsing import Parser

from harness.cli.app import app
from harness.results.schema import Environment, Record, write_results

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)( run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:tt-harness|pytest) [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. `run`: whether its commands are run here."""

    language: str
    run: bool
    text: str

    @property
    def commands(self) -> list[str]:
        """A line each; one that ends in a backslash goes on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    return [
        Block(language, bool(run), text) for language, run, text in FENCE.findall(page.read_text("utf-8"))
    ]


def commands(page: Path) -> Iterator[str]:
    for block in blocks(page):
        if block.language == "sh":
            yield from block.commands
    yield from (output for output in INLINE.findall(page.read_text("utf-8")) if "..." not in output)


def steps(file: Path) -> Iterator[str]:
    """The commands of the steps of a workflow or action."""
    for line in re.findall(
        r"^ +(?:run: )?(tt-harness .*?[^\\])$", file.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        yield re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", line.replace("\\\n", " ")).replace(" $mode ", " ")


def takes(line: str, parser: Parser) -> None:
    """Fails where the program would refuse a command line; runs nothing."""
    program, *arguments = shlex.split(line, comments=True)
    if program == "pytest":
        options, unknown = parser.parse_known_and_unknown_args(arguments)
        for plugin in options.plugins:
            if plugin.startswith("harness."):
                its_own = Parser(_ispytest=True)
                importlib.import_module(plugin).pytest_addoption(its_own)
                left = its_own.parse_known_and_unknown_args(arguments)[1]
                unknown = [argument for argument in unknown if argument in left]
        assert [argument for argument in unknown if argument.startswith("-")] == [], line
    elif program == "tt-harness":
        name, command = program, typer.main.get_command(app)
        while hasattr(command, "commands"):
            name, *arguments = arguments
            assert name in command.commands, line
            command = command.commands[name]
        if arguments:  # else a command that is spoken of
            command.make_context(name, arguments)
    else:
        assert program in ("pip", "make", "git"), f"who checks {line!r}?"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_taken(page: Path, pytestconfig: pytest.Config) -> None:
    for line in commands(page):
        for alone in re.split(r" && | \| ", line):
            takes(alone, pytestconfig._parser)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["accuracy.yml", "example.yml", "run/action.yml"])
def test_the_workflows_commands_are_taken(name: str, pytestconfig: pytest.Config) -> None:
    file = ROOT / "ci" / "github" / name
    commands = list(steps(file))
    assert bool(commands) == (name != "example.yml")
    for line in commands:
        takes(line, pytestconfig._parser)


def test_the_workflows_give_what_they_ask_for() -> None:
    """Every input that is read is declared, and every one that is given is taken."""
    folder = ROOT / "ci" / "github"
    action, workflow, example = (
        yaml.safe_load((folder / name).read_text("utf-8"))
        for name in ("run/action.yml", "accuracy.yml", "example.yml")
    )
    # `on` is YAML's true
    taken = {
        "action": set(action["inputs"]),
        "workflow": set(workflow[True]["workflow_call"]["inputs"]),
    }
    for name, kind in (("run/action.yml", "action"), ("accuracy.yml", "workflow")):
        assert set(re.findall(r"inputs\.([\w-]+)", (folder / name).read_text("utf-8"))) == taken[kind]
    (run,) = [step for step in workflow["jobs"]["run"]["steps"] if "ci/github/run" in step.get("uses", "")]
    assert set(run["with"]) <= taken["action"]
    for job in example["jobs"].values():
        assert set(job["with"]) <= taken["workflow"]
        json.loads(job["with"].get("matrix", "[]"))


def record(**changes: Any) -> Record:
    base = Record(
        test="tests/test_mlp.py::test_mlp",
        module="mlp",
        metric="pcc",
        value=0.9999,
        gate=0.999,
        direction="higher",
        verdict="pass",
        target="emulator",
        precision="accuracy",
    )
    return replace(base, **changes)


def test_the_gates_commands_do_what_is_said(start, tmp_path: Path) -> None:
    environment = Environment.collect(target="emulator", mesh="1x1", model="smollm2")
    write_results(tmp_path / "results.json", environment, [record()])
    for i in range(1, 4):
        seconds = tuple(0.01 + 1e-5 * (i + j % 3) for j in range(10))
        time = record(
            metric="step_time", value=seconds[5], samples=seconds, clock="host", gate=None, direction=None
        )
        write_results(tmp_path / f"session{i}.json", environment, [time])
        write_results(
            tmp_path / f"part{i}.json", replace(environment, mesh=f"1x{i}"), [record(mesh=f"1x{i}")]
        )
    (tmp_path / "policy.yaml").write_text((ROOT / "ci" / "policy.yaml").read_text("utf-8"), "utf-8")
    for block in blocks(ROOT / "docs" / "ci.md"):
        for line in block.commands if block.run else ():
            result = start(*shlex.split(line))
            assert result.status == 0, (line, result)


def test_ten_minutes_with_a_module_of_ones_own(start, model: Path, tmp_path: Path) -> None:
    """The page's module, test and commands as they stand, on a small model."""
    page = blocks(ROOT / "docs" / "bring-up.md")
    (source,) = [block.text for block in page if block.language == "python" and "class MyMLP" in block.text]
    (tmp_path / "test_my_mlp.py").write_text(source, "utf-8")
    (tmp_path / "my-llama").symlink_to(model)
    lines = [line for block in page if block.run for line in block.commands]
    assert len(lines) == 3
    for line in lines:
        result = start(*shlex.split(line), "-p", "no:cacheprovider")
        assert result.status == 0, (line, result)
        assert "VERDICT: pass, all 12 checks" in result.out
    assert (tmp_path / "results" / "results.json").exists()
