"""How this suite files figures: judged where the emulator's mode makes a promise, else shown and said not to be gated."""

from __future__ import annotations

from dataclasses import replace

from harness.conformance.numerics.layer import Outcome
from harness.conformance.numerics.rows import row
from harness.run.recorder import Recorder, Regression
from harness.targets import active


def mode() -> str:
    """The emulator's mode; whatever else computes must do what the recorded device did, bit for bit."""
    return active().mode or "exact"


def not_gated() -> str:
    """What a record that is shown only says for itself."""
    return f"not gated in mode {mode()}"


class Filing:
    """Files rows and figures of one test and fails it at the end, so that no missed gate hides the figures after it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._missed: list[str] = []

    def outcome(self, outcome: Outcome, *, vector: bool = False) -> None:
        """One output of one op, or why it was not computed. `vector`: of random operands."""
        if outcome.ours is None:
            self._recorder.state("not_compared", f"{outcome.output.name}: {outcome.reason}")
            return
        figures = row(outcome, mode(), vector=vector)
        details = {"point": outcome.output.name, **figures.details}
        self._judge(figures.judged, figures.n, figures.module, details=details)
        self._note(figures.shown, figures.n, figures.module, details=details)

    def error(
        self,
        what: str,
        ours: float,
        recorded: float,
        n: int,
        module: str,
        modes: tuple[str, ...] = ("exact", "device"),
        group: str | None = None,
    ) -> None:
        """An error to the golden, ours and the recorded one: the relative change is judged in `modes`.

        Of a `group` of errors the report shows the worst.
        """
        change = abs(ours / recorded - 1) if recorded else 0.0 if ours == recorded else float("inf")
        details: dict[str, float | str] = {"what": what, "ours": ours, "recorded": recorded}
        if group is not None:
            details["group"] = group
        self.figure("error_change", change, n, module, details, judged=mode() in modes)

    def figure(
        self,
        metric: str,
        value: float,
        n: int,
        module: str,
        details: dict[str, float | str],
        *,
        judged: bool,
    ) -> None:
        """Any other figure."""
        if judged:
            self._judge({metric: value}, n, module, details=details)
        else:
            self._note({metric: value}, n, module, details=details)

    def close(self) -> None:
        """Raises Regression, a line a figure, if any missed its gate."""
        if self._missed:
            raise Regression("\n".join(self._missed))

    def _note(
        self, values: dict[str, float], n: int, module: str, *, details: dict[str, float | str]
    ) -> None:
        self._recorder.note(values, n, module, details=details, note=not_gated())

    def _judge(
        self, values: dict[str, float], n: int, module: str, *, details: dict[str, float | str]
    ) -> None:
        subject = ", ".join(str(details[key]) for key in ("point", "what", "setting") if key in details)
        try:
            self._recorder.judge(values, n, module, details=details, note=subject)
        except Regression as error:
            self._missed.append(f"{subject}: {error}")


def of_precision(recorder: Recorder, precision: str) -> Recorder:
    """The recorder of a test that runs a precision of its own, whatever `--tt-precision` says."""
    return replace(recorder, base=replace(recorder.base, precision=precision))
