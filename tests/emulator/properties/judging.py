"""One call, asked of all: the emulator in its three modes, PyTorch and the real ttnn. And the count of what came of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from hypothesis.strategies import SearchStrategy

from harness.emulator import api
from harness.emulator.arithmetic import mode
from harness.emulator.arithmetic.mode import Mode
from harness.emulator.errors import DeviceError
from harness.emulator.spec.types import FabricConfig
from tests.emulator.properties.calls import INTEGERS, Call, Tensor, described
from tests.emulator.properties.comparison import Reference, wrong_values
from tests.emulator.properties.explained import explanation
from tests.emulator.properties.real import Answer, RealTtnn


@dataclass(frozen=True)
class Family:
    """Ops that are drawn together. `references`: by op, what PyTorch makes of a call. `mesh`: rows x columns of devices."""

    name: str
    calls: SearchStrategy[Call]
    references: Mapping[str, Reference] = field(default_factory=dict)
    mesh: str = "1x1"


class Outcome(Enum):
    EQUAL = "equal"
    BOTH_REFUSE = "both refuse"
    EMULATOR_REFUSES = "only the emulator refuses"
    TTNN_REFUSES = "only ttnn refuses"
    SPECS = "specs differ"
    VALUES = "values differ"
    BROKE = "the emulator broke"  # an error that is no refusal: Python's or PyTorch's own
    TTNN_FAILED = "ttnn crashed or hung"


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    said: str = ""  # what each said, where they differ
    explained: str = ""  # the reason, where it is to stay

    @property
    def stands(self) -> bool:
        """No difference, or an explained one."""
        return self.outcome in (Outcome.EQUAL, Outcome.BOTH_REFUSE) or bool(self.explained)


class Emulator:
    """The emulator on an open mesh."""

    def __init__(self, mesh: str = "1x1") -> None:
        shape = tuple(map(int, mesh.split("x")))
        if shape != (1, 1):
            api.set_fabric_config(FabricConfig.FABRIC_1D)
        self.device = api.open_mesh_device(api.MeshShape(shape))

    def answer(self, call: Call) -> tuple[Answer, list[Any]]:
        """Its answer in the mode in force ("broke" for an error that is no refusal), and the results."""
        try:
            results = call.run(api, self.device)[1]
            return Answer("taken", " + ".join(described(result, api) for result in results)), results
        except DeviceError as error:
            return Answer("refused", str(error)), []
        except (TypeError, IndexError, ValueError, AttributeError) as error:
            # One of ours starts with the op's name, as does Python's on a wrong argument; or says what is not modelled.
            ours = str(error).startswith(("ttnn.", "the emulator does not model"))
            return Answer("refused" if ours else "broke", f"{type(error).__name__}: {error}"), []
        except Exception as error:  # a defect, whatever it is
            return Answer("broke", f"{type(error).__name__}: {error}"), []

    def held(self, tensor: Tensor) -> torch.Tensor:
        """A tensor's values once rounded to its dtype, float64 or int64; of all devices, side by side where it was split.

        They know the dtype, `.ttnn_dtype`, and along which dim they were split, `.mapped`.
        """
        made = tensor.made(api, None if tensor.host else self.device)
        whole = torch.cat(made.shards, tensor.mapped) if tensor.mapped is not None else made.shards[0]
        values = whole.long() if tensor.dtype in INTEGERS else whole.double()
        values.ttnn_dtype, values.mapped = tensor.dtype, tensor.mapped  # type: ignore[attr-defined]
        return values


def judged(family: Family, call: Call, emulator: Emulator, real: RealTtnn) -> Verdict:
    """Whether all agree on a call."""
    theirs = real.answer(call)
    with mode.using(Mode.FAST):
        ours, results = emulator.answer(call)
    outcome, said = _compared(ours, theirs)
    if outcome is Outcome.EQUAL and call.op in family.references:
        wrong = _wrong(family.references[call.op], call, emulator, ours, results)
        if wrong is not None:
            outcome, said = Outcome.VALUES, wrong
    why = explanation(call.op, outcome.value, said)
    return Verdict(outcome, said, why.reason if why is not None else "")


def _compared(ours: Answer, theirs: Answer) -> tuple[Outcome, str]:
    said = f"emulator {ours.kind}: {ours.said}; ttnn {theirs.kind}: {theirs.said}"
    if ours.kind == "broke":
        return Outcome.BROKE, said
    if theirs.kind in ("crashed", "hung"):
        return (Outcome.BOTH_REFUSE if ours.kind == "refused" else Outcome.TTNN_FAILED), said
    if ours.kind == theirs.kind == "refused":
        return Outcome.BOTH_REFUSE, said
    if ours.kind == "refused":
        return Outcome.EMULATOR_REFUSES, said
    if theirs.kind == "refused":
        return Outcome.TTNN_REFUSES, said
    return (Outcome.EQUAL if ours.said == theirs.said else Outcome.SPECS), said


def _wrong(
    reference: Reference, call: Call, emulator: Emulator, ours: Answer, results: list[Any]
) -> str | None:
    """What of the values is wrong in a mode, or None."""
    args, kwargs = call.with_torch(emulator.held)
    try:
        wanted = reference(*args, **kwargs)
    except (IndexError, RuntimeError, TypeError) as error:
        return f"both take it, PyTorch refuses: {str(error).splitlines()[0]}"
    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    for each in Mode:
        if each is not Mode.FAST:
            with mode.using(each):
                again, results = emulator.answer(call)
            if again != ours:
                return f"{each.value}: {again.kind}: {again.said}, but fast: {ours.said}"
        for result, want in zip(results, wanted, strict=True):
            wrong = None if want is None else _wrong_result(result, want)
            if wrong is not None:
                return f"{each.value}: {wrong}"
    return None


def _wrong_result(result: Any, want: Any) -> str | None:
    if isinstance(result, torch.Tensor):
        whole, dtype = result, str(result.dtype).removeprefix("torch.")
        return wrong_values(whole, dtype, want)
    wants = want if isinstance(want, list) else [want] * len(result.shards)  # a list: one a device
    for shard, one in zip(result.shards, wants, strict=True):
        wrong = wrong_values(shard, result.dtype.name.lower(), one)
        if wrong is not None:
            return wrong
    return None


class Tally:
    """How often each op had which outcome, and the first call of each kind of difference."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.differences: dict[tuple[str, Outcome, str], tuple[int, Call, Verdict]] = {}

    def add(self, call: Call, verdict: Verdict) -> None:
        self.counts[call.op, "explained" if verdict.explained else verdict.outcome.value] += 1
        if not verdict.stands:
            key = (call.op, verdict.outcome, _kind(verdict.said))
            count, first, said = self.differences.get(key, (0, call, verdict))
            if len(repr(call)) < len(repr(first)):
                first, said = call, verdict
            self.differences[key] = count + 1, first, said

    def lines(self) -> Iterator[str]:
        """The table: an op a line, an outcome a column."""
        named = [o.value for o in Outcome] + ["explained"]
        columns = [o for o in named if any(key[1] == o for key in self.counts)]
        yield " | ".join(["op".ljust(48), "calls", *columns])
        for op in [*sorted({key[0] for key in self.counts}), "all"]:
            of = [
                sum(n for key, n in self.counts.items() if op in (key[0], "all") and key[1] == o)
                for o in columns
            ]
            cells = [str(n).rjust(len(o)) for n, o in zip(of, columns, strict=True)]
            yield " | ".join([op.ljust(48), str(sum(of)).rjust(5), *cells])


def _kind(said: str) -> str:
    """What is the same for all calls refused for one cause: the reasons, without their numbers and what was taken."""
    return re.sub(r"taken: [^;]*|\[[^\]]*\]|-?\d+(\.\d+)?|DataType\.\w+", "#", said)


@contextmanager
def opened(mesh: str) -> Iterator[tuple[Emulator, RealTtnn]]:
    """Both who answer, on a mesh of that shape."""
    emulator, real = Emulator(mesh), RealTtnn(mesh)
    try:
        yield emulator, real
    finally:
        real.close()
        api.close_mesh_device(emulator.device)
