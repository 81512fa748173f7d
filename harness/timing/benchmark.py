"""The `latency` fixture: times prefills and decode steps on pytest-benchmark, by a clock that each record names.

On a card the clock is the host's monotonic one around whole calls, which return host tensors and so wait for the device.
Everywhere else (emulator, dry run, simulator) it is the device model's: it stands still and moves on by what the model makes of
the pass's op log. What an emulated or simulated device takes itself is never a latency.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import tt_llm
from harness.results.schema import Phase, Record
from harness.run.session import DummyCheckpoint
from harness.targets import active
from harness.timing.device_model.architectures import ARCHITECTURES
from harness.timing.device_model.pass_time import PassTime, pass_time
from harness.timing.device_model.roofline import Setting
from harness.timing.passes import Pass, logged, step
from harness.ttnn_calls.refusals import reason

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from harness.run.recorder import Recorder
    from harness.run.session import Session

WARM_UP, ROUNDS = 2, 20
TIMED = ("ttft", "step_time")
UNITS = {
    "ttft": "s",
    "step_time": "s",
    "t_s_u": "t/s/u",
    "t_s": "t/s",
    "first_step": "s",  # what compiles
    "collective_share": "",
}


class ModelClock:
    """Seconds on the device model's clock."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def move(self, seconds: float) -> None:
        """Lets time pass."""
        self._now += seconds


_MODEL_CLOCK = ModelClock()


def now() -> float:
    """The timer to give pytest-benchmark: the device model's clock where latencies are modelled, else the host's."""
    return time.perf_counter() if active().card else _MODEL_CLOCK()


@dataclass(frozen=True)
class Latency:
    """Times one kind of pass and files its records. `benchmark`: gives pytest-benchmark's fixture of the test."""

    session: Session
    recorder: Recorder
    precision: str
    benchmark: Callable[[], BenchmarkFixture]

    def __call__(
        self, phase: Phase, *, batch: int = 1, seq_len: int, traced: bool, layers: int | None = None
    ) -> None:
        """A prefill of one user's `seq_len` tokens, or a decode step of `batch` users at position `seq_len`.

        `layers`: of a model cut to so many (default: all). Where no trace can be run, a traced step leaves its counters
        and why it was not timed. Raises InputError for what the model cannot run.
        """
        setting = Setting(batch, seq_len, self.session.mesh_shape, traced)
        base = replace(
            self.recorder.base,
            module="model" if layers is None else f"model of {layers} layer{'s' * (layers != 1)}",
            phase=phase,
            batch=batch,
            seq_len=seq_len,
            verdict="pass",
            note="traced" if traced else "not traced",
        )
        kind = phase, batch, seq_len, layers or self.session.config.n_layers
        if active().card:
            self._measure(base, setting, *kind)
        else:
            self._model(base, setting, *kind)

    def _model(
        self, base: Record, setting: Setting, phase: Phase, batch: int, seq_len: int, layers: int
    ) -> None:
        ops = _one_layer(self.session, self.precision, phase, batch, seq_len).of_layers(layers).ops
        modelled = pass_time(ops, setting, ARCHITECTURES[active().arch])
        base = replace(base, clock="model")
        if setting.traced and not active().traces:
            self._untimed(replace(base, details=_counters(modelled)), active().what)
            return
        samples, note = self._rounds(lambda: _MODEL_CLOCK.move(modelled.seconds), warm_up=0, rounds=1)
        figures = _figures(phase, batch, samples)
        if setting.mesh != (1, 1):
            figures["collective_share"] = modelled.collective_share
        base = replace(base, details=_details(modelled), note=base.note + note)
        self._file(base, figures, samples)

    def _measure(
        self, base: Record, setting: Setting, phase: Phase, batch: int, seq_len: int, layers: int
    ) -> None:
        generator = _loaded(self.session, self.precision, layers, batch, seq_len)
        run = step(generator, phase, batch, seq_len, traced=setting.traced)
        start = now()
        run()
        first = now() - start
        ops = logged(generator, step(generator, phase, batch, seq_len)).ops
        counters = _counters(pass_time(ops, setting, ARCHITECTURES[active().arch]))
        base = replace(base, clock="host", details=counters)
        try:
            samples, note = self._rounds(run, WARM_UP, ROUNDS)
        except RuntimeError as error:
            if not setting.traced:
                raise
            self._untimed(base, reason(str(error)))
            return
        figures = _figures(phase, batch, samples) | {"first_step": first}
        self._file(replace(base, note=base.note + note), figures, samples)

    def _untimed(self, base: Record, why: str) -> None:
        """A traced step where there are no traces: a record of its counters."""
        note = f"this target runs no trace ({why}); what the step costs is in its counters"
        self.recorder.file(replace(base, metric="step_time", verdict="not_compared", note=note))

    def _file(self, base: Record, figures: dict[str, float], samples: tuple[float, ...]) -> None:
        for metric, value in figures.items():
            timed_samples = samples if metric in TIMED else ()
            record = replace(
                base, metric=metric, value=value, unit=UNITS[metric], n=len(samples), samples=timed_samples
            )
            self.recorder.file(record)

    def _rounds(self, run: Callable[[], object], warm_up: int, rounds: int) -> tuple[tuple[float, ...], str]:
        """The seconds of each round after the warm-up, and what to note of how they were taken."""
        seconds: list[float] = []

        def timed() -> None:
            start = now()
            run()
            seconds.append(now() - start)

        benchmark = self.benchmark()
        benchmark.group = f"clock: {'host' if active().card else 'model, not measured'}"
        pedantic: Callable[..., object] = benchmark.pedantic  # untyped
        pedantic(timed, rounds=rounds, warmup_rounds=warm_up)
        while len(seconds) < warm_up + rounds:  # pytest-benchmark switched off makes one call
            timed()
        note = "" if benchmark.enabled else "; pytest-benchmark is off here (pytest-xdist), timed without it"
        return tuple(seconds[warm_up : warm_up + rounds]), note


@functools.lru_cache(maxsize=1)
def _loaded(session: Session, precision: str, layers: int, batch: int, seq_len: int) -> tt_llm.Generator:
    return tt_llm.load(
        session.options.model, session.mesh_device, precision, batch, seq_len + 1, n_layers=layers
    )


@functools.cache
def _one_layer(session: Session, precision: str, phase: Phase, batch: int, seq_len: int) -> Pass:
    """The op log of the pass with one layer: of shapes alone under the emulator, else of dummy weights."""
    if not active().native:
        from harness.timing.shapes import model_pass

        one = replace(session.config, n_layers=1)
        return model_pass(one, session.mesh_device, precision, phase, batch=batch, seq_len=seq_len)
    generator = tt_llm.load(
        session.options.model,
        session.mesh_device,
        precision,
        batch,
        seq_len + 1,
        n_layers=1,
        weights=DummyCheckpoint(session.folder),
    )
    return logged(generator, step(generator, phase, batch, seq_len))


def _figures(phase: Phase, batch: int, samples: tuple[float, ...]) -> dict[str, float]:
    """TTFT of a prefill; of a decode step its time, tokens a second and user, and tokens a second."""
    middle = median(samples)
    if phase == "prefill":
        return {"ttft": middle}
    return {"step_time": middle, "t_s_u": 1 / middle, "t_s": batch / middle}


def _details(time: PassTime) -> dict[str, float | str]:
    """Seconds by bound and by op, and exact counters."""
    return {
        **{f"bound {bound}": seconds for bound, seconds in time.by_bound().items()},
        **{f"op {name}": seconds for name, seconds in time.by_op().items()},
        **_counters(time),
    }


def _counters(time: PassTime) -> dict[str, float | str]:
    """What an op log holds whatever the clock."""
    return {
        "ops": float(len(time.ops)),
        "dram_bytes": sum(op.work.dram_bytes for op in time.ops),
        "flops": sum(op.work.flops for op in time.ops),
        "link_bytes": sum(op.work.link_bytes for op in time.ops),
    }
