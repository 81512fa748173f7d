"""The fixtures a test asks for. All of them stand on the one `Session` of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import ttnn

import tt_llm
from goldens import Golden, GoldenCorrupt, GoldenMissing, GoldenSpec, GoldenStale
from harness.foreign import Model, logits_of
from harness.results.schema import Record, record_to_json
from harness.run import text_scores
from harness.run.module_runner import ModuleRunner
from harness.run.outcomes import RECORD_PROPERTY, leave, unjudged
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.value_sources import of_what_was_read
from harness.targets import active
from harness.timing.benchmark import Latency
from harness.timing.gate import CounterGate


@pytest.fixture(scope="session")
def tt_session(pytestconfig: pytest.Config) -> Session:
    """The run's shared state: model files, goldens, policy, loaded models."""
    return pytestconfig.stash[SESSION]


@pytest.fixture(scope="session")
def mesh_device(tt_session: Session) -> ttnn.MeshDevice:
    """The opened mesh of `--tt-mesh`."""
    return tt_session.mesh_device


@pytest.fixture
def generator(tt_session: Session, tt_precision: str) -> tt_llm.Generator:
    """The whole model in the precision of the test, loaded once for all tests of it."""
    with leave():
        return tt_session.generator(tt_precision)


@pytest.fixture
def tt_module(tt_session: Session, tt_precision: str, golden_spec: GoldenSpec) -> ModuleRunner:
    """The module the test's golden names, as a function of the golden's inputs. It alone is loaded, not the model."""
    with leave():
        return ModuleRunner(tt_session.modules(tt_precision), golden_spec)


@pytest.fixture
def golden_spec() -> GoldenSpec:
    """The golden of the test's `tt_golden` marker, by name; the marker overrides this fixture."""
    pytest.fail(
        'no golden named: mark the test, such as @pytest.mark.tt_golden("mlp", layer=0, seq_len=128)',
        pytrace=False,
    )


@pytest.fixture
def golden(tt_session: Session, golden_spec: GoldenSpec, recorder: Recorder) -> Golden:
    """The golden of the test's `tt_golden` marker. A missing or stale one fails the test and says how to make it."""
    try:
        with leave(GoldenCorrupt):
            return tt_session.golden(golden_spec)
    except (GoldenMissing, GoldenStale) as error:
        reason, stale = str(error), isinstance(error, GoldenStale)
    recorder.state("stale_golden" if stale else "missing_golden", reason)
    pytest.fail(reason, pytrace=False)


@pytest.fixture
def recorder(request: pytest.FixtureRequest, tt_session: Session) -> Recorder:
    """Files records for this test: `recorder.judge({"top1": 0.97}, n=1023)`. They travel in its `user_properties`."""
    item = request.node
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    base = unjudged(item.nodeid, tt_session.options, parameters)

    def file(record: Record) -> None:
        record = replace(record, source=of_what_was_read())
        item.user_properties.append((RECORD_PROPERTY, record_to_json(record)))

    target = active()
    no_numbers = None if target.computes else f"{target.name} runs every op and computes none ({target.what})"
    return Recorder(base, tt_session.policy, file, no_numbers, target.mode)


@pytest.fixture
def compare(recorder: Recorder) -> Callable[..., object]:
    """`compare(actual, golden.output)`: PCC and its companions as records; fails the test where a gate is missed."""
    return recorder.compare


@pytest.fixture
def judge_model(
    tt_session: Session, golden_spec: GoldenSpec, golden: Golden, recorder: Recorder
) -> Callable[[Model], None]:
    """`judge_model(model)`: all metrics of a model of the test's own against the golden's logits; fails where a gate is missed.

    `model`: `harness.foreign.Model`, a callable from token ids and positions to logits, or an object with `prefill_forward` and
    `decode_forward`. The golden is of "model" (prefill) or of "teacher_forced" (decode).
    """

    def run(model: Model) -> None:
        with leave():
            logits = logits_of(model, golden_spec, golden.inputs)
        if logits.shape != golden.output.shape or golden_spec.rows == "last":
            recorder.compare(logits, golden.output, "model")
            return
        tokens = golden.inputs["tokens"]
        if golden_spec.module == "teacher_forced":  # row i predicts the token after position seq_len - 1 + i
            tokens = tokens[:, golden_spec.seq_len - 1 : -1]
        text_scores.judge(
            recorder,
            golden.output,
            logits,
            text_scores.score(golden.output, logits, tokens, tt_session.decode),
        )

    return run


@pytest.fixture
def counters(tt_session: Session, recorder: Recorder, tt_precision: str) -> CounterGate:
    """`counters(run, phase="decode", batch=32, seq_len=128)`: exact counters of a pass as records, held against the baseline.

    Where the target captures no graph, nothing is counted, the record says so, and the test is skipped.
    """
    target = active()
    if not target.native:
        reason = f"{target.name} ({target.what}) captures no graph to count in; --tt-target dryrun does"
        pytest.skip(reason)
    return CounterGate(tt_session, recorder, tt_precision)


@pytest.fixture
def latency(
    request: pytest.FixtureRequest, tt_session: Session, recorder: Recorder, tt_precision: str
) -> Latency:
    """`latency("decode", batch=32, seq_len=128, traced=True)`: the time of a pass as records, each with its clock.

    Mark the module with `pytest.mark.benchmark(timer=harness.timing.benchmark.now)`.
    """
    return Latency(tt_session, recorder, tt_precision, lambda: request.getfixturevalue("benchmark"))


SESSION = pytest.StashKey[Session]()
