"""The latency fixture on a card's clock: the first step apart, warm-up left out, one record a figure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.results.schema import Record
from harness.run.recorder import Recorder
from harness.targets import TARGETS
from harness.timing import benchmark as timing
from harness.timing.benchmark import ROUNDS, WARM_UP, Latency
from harness.timing.passes import Pass
from harness.ttnn_calls.op_log import OpRecord, TensorSpec

COMPILES, STEP = 2.0, 0.01
SLOW = (
    "TT_THROW @ queue.cpp:488: tt::exception\ninfo:\nNot supported for slow dispatch\nbacktrace:\n --- more"
)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A target that is a card: its first step takes COMPILES, the next ones STEP. Gives whether each step was traced."""
    clock, steps = timing.ModelClock(), list[bool]()

    def step(*_: Any, traced: bool = False) -> Any:
        def run() -> None:
            clock.move(STEP if steps else COMPILES)
            steps.append(traced)

        return run

    monkeypatch.setattr(
        timing, "active", lambda: SimpleNamespace(**vars(TARGETS["silicon"]), arch="wormhole_b0")
    )
    monkeypatch.setattr(timing, "_one_layer", lambda *_: pytest.fail("nothing is modelled"))
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    monkeypatch.setattr(timing, "_loaded", lambda *_: None)
    monkeypatch.setattr(timing, "step", step)
    monkeypatch.setattr(timing, "logged", lambda *_: Pass((), ()))
    return steps


@pytest.fixture
def filed(card: list[bool], request: pytest.FixtureRequest) -> Any:
    """filed(phase, ...) times a pass on that card and gives its records by metric."""

    def run(*arguments: Any, **options: Any) -> dict[str, Record]:
        records: list[Record] = []
        base = Record(
            test="t",
            module="none",
            metric="none",
            value=None,
            verdict="not_compared",
            target="silicon",
            precision="p",
        )
        session: Any = SimpleNamespace(config=SimpleNamespace(n_layers=30), mesh_shape=(1, 1))
        recorder = Recorder(base, policy=None, file=records.append)  # type: ignore[arg-type] # nothing is judged
        Latency(session, recorder, "p", lambda: request.getfixturevalue("benchmark"))(*arguments, **options)
        return {record.metric: record for record in records}

    return run


pytestmark = [pytest.mark.alone, pytest.mark.benchmark(timer=timing.now)]


def test_a_decode_step_on_a_card(filed: Any, card: list[bool]) -> None:
    """Seconds of each round, what follows from their median, and the compilation beside it."""
    records = filed("decode", batch=8, seq_len=128, traced=True)
    assert set(records) == {"step_time", "t_s_u", "t_s", "first_step"}
    step = records["step_time"]
    assert (step.clock, step.module, step.batch, step.seq_len, step.unit) == ("host", "model", 8, 128, "s")
    assert step.samples == pytest.approx((STEP,) * ROUNDS)
    assert records["t_s_u"].value == pytest.approx(1 / STEP)
    assert records["t_s"].value == pytest.approx(8 / STEP)
    assert records["first_step"].value == pytest.approx(COMPILES)
    assert len(card) >= 1 + WARM_UP + ROUNDS
    assert all(card)


def test_a_prefill_of_a_cut_model_on_a_card(filed: Any) -> None:
    """Its time to the first token, filed under the layers that ran."""
    records = filed("prefill", seq_len=512, traced=False, layers=1)
    assert set(records) == {"ttft", "first_step"}
    assert records["ttft"].module == "model of 1 layer"
    assert records["ttft"].note == "not traced"


def test_a_card_without_traces_says_so_and_gives_counters(
    filed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that captures fails: nothing is timed, and the record says why; untraced steps are not excused."""
    runs = []

    def step(*_: Any, traced: bool = False) -> Any:
        def run() -> None:
            runs.append(traced)
            if len(runs) > 1:
                raise RuntimeError(SLOW)

        return run

    monkeypatch.setattr(timing, "step", step)
    (record,) = filed("decode", batch=8, seq_len=128, traced=True).values()
    assert record.verdict == "not_compared"
    assert record.value is None
    assert record.note.startswith("this target runs no trace (Not supported for slow dispatch); ")
    assert set(record.details) == {"ops", "dram_bytes", "flops", "link_bytes"}


def test_another_error_of_an_untraced_step_is_an_error(filed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing to do with traces."""

    def step(*_: Any, traced: bool = False) -> Any:
        def run() -> None:
            raise RuntimeError("out of memory")

        return run

    monkeypatch.setattr(timing, "step", step)
    with pytest.raises(RuntimeError, match="out of memory"):
        filed("decode", batch=8, seq_len=128, traced=False)


@pytest.fixture
def simulator(card: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that computes slowly and captures no trace, as `ttsim`; its one-layer pass is an embedding's lookup."""
    target = SimpleNamespace(**vars(TARGETS["ttsim"]), arch="wormhole_b0", what="simulated Wormhole")
    ids = TensorSpec((1, 32), (1, 32), "UINT32", "ROW_MAJOR", "INTERLEAVED/DRAM")
    rows = TensorSpec((1, 1, 32, 64), (1, 1, 32, 64), "BFLOAT16", "TILE", "INTERLEAVED/DRAM")
    table = TensorSpec((1, 1, 256, 64), (1, 1, 256, 64), "BFLOAT16", "ROW_MAJOR", "INTERLEAVED/DRAM")
    lookup = OpRecord("ttnn.embedding", (ids, table), (rows,))
    monkeypatch.setattr(timing, "active", lambda: target)
    monkeypatch.setattr(timing, "_one_layer", lambda *_: Pass((lookup,), ((0, 1),)))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: pytest.fail("nothing is measured"))


@pytest.mark.usefixtures("simulator")
def test_a_simulators_own_time_is_no_latency(filed: Any, card: list[bool]) -> None:
    """The clock is the model's, and no step is run to be timed."""
    records = filed("decode", batch=8, seq_len=128, traced=False)
    assert {record.clock for record in records.values()} == {"model"}
    assert set(records) == {"step_time", "t_s_u", "t_s"}
    assert card == []


@pytest.mark.usefixtures("simulator")
def test_a_simulator_without_traces_says_so_and_gives_counters(filed: Any) -> None:
    """No time is made up for a step that cannot be run; what it costs is there all the same."""
    (record,) = filed("decode", batch=8, seq_len=128, traced=True).values()
    assert (record.verdict, record.value) == ("not_compared", None)
    assert record.note == (
        "this target runs no trace (simulated Wormhole); what the step costs is in its counters"
    )
    assert record.details["ops"] == 30
    assert set(record.details) == {"ops", "dram_bytes", "flops", "link_bytes"}
