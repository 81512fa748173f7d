"""The fixtures a test asks for. All of them stand on the one `Session` of the run.

The name of each begins with `tt_`; a short name is another one for it, and a fixture of that name in a user's own conftest
or test file takes its place. What they need is imported when a test asks for one: this file is read in every run of
everybody who has the harness installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.plugin.stash import SESSION

if TYPE_CHECKING:
    import ttnn

    import tt_llm
    from goldens import Golden, GoldenSpec
    from harness.foreign import Model
    from harness.results.schema import Record
    from harness.run.module_runner import ModuleRunner
    from harness.run.recorder import Recorder
    from harness.run.session import Session
    from harness.timing.benchmark import Latency
    from harness.timing.gate import CounterGate


@pytest.fixture(scope="session")
def tt_session(pytestconfig: pytest.Config) -> Session:
    """The run's shared state: model files, goldens, policy, loaded models."""
    if SESSION not in pytestconfig.stash:  # asked for by getfixturevalue, which nobody sees beforehand
        pytest.fail(
            "tt_session: no target is in place; name one, such as --tt-target emulator", pytrace=False
        )
    return pytestconfig.stash[SESSION]


@pytest.fixture(scope="session")
def tt_mesh_device(tt_session: Session) -> ttnn.MeshDevice:
    """The opened mesh of `--tt-mesh`."""
    return tt_session.mesh_device


@pytest.fixture
def tt_generator(tt_session: Session, tt_precision: str) -> tt_llm.Generator:
    """The whole model in the precision of the test, loaded once for all tests of it."""
    from harness.run.outcomes import leave

    with leave():
        return tt_session.generator(tt_precision)


@pytest.fixture
def tt_module(tt_session: Session, tt_precision: str, tt_golden_spec: GoldenSpec) -> ModuleRunner:
    """The module the test's golden names, as a function of the golden's inputs. It alone is loaded, not the model."""
    from harness.run.module_runner import ModuleRunner
    from harness.run.outcomes import leave

    with leave():
        return ModuleRunner(tt_session.modules(tt_precision), tt_golden_spec)


@pytest.fixture
def tt_golden_spec() -> GoldenSpec:
    """The golden of the test's `tt_golden` marker, by name; the marker overrides this fixture."""
    pytest.fail(
        'no golden named: mark the test, such as @pytest.mark.tt_golden("mlp", layer=0, seq_len=128)',
        pytrace=False,
    )


@pytest.fixture
def tt_golden(tt_session: Session, tt_golden_spec: GoldenSpec, tt_recorder: Recorder) -> Golden:
    """The golden of the test's `tt_golden` marker. A missing or stale one fails the test and says how to make it."""
    from goldens import GoldenCorrupt, GoldenMissing, GoldenStale
    from harness.run.outcomes import leave

    try:
        with leave(GoldenCorrupt):
            return tt_session.golden(tt_golden_spec)
    except (GoldenMissing, GoldenStale) as error:
        reason, stale = str(error), isinstance(error, GoldenStale)
    tt_recorder.state("stale_golden" if stale else "missing_golden", reason)
    pytest.fail(reason, pytrace=False)


@pytest.fixture
def tt_recorder(request: pytest.FixtureRequest, tt_session: Session) -> Recorder:
    """Files records for this test: `tt_recorder.judge({"top1": 0.97}, n=1023)`. They travel in its `user_properties`."""
    from harness.results.schema import record_to_json
    from harness.run.outcomes import RECORD_PROPERTY, unjudged
    from harness.run.recorder import Recorder
    from harness.run.value_sources import of_what_was_read
    from harness.targets import active

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
def tt_compare(tt_recorder: Recorder) -> Callable[..., object]:
    """`tt_compare(actual, golden.output)`: PCC and its companions as records; fails the test where a gate is missed."""
    return tt_recorder.compare


@pytest.fixture
def tt_judge_model(
    tt_session: Session, tt_golden_spec: GoldenSpec, tt_golden: Golden, tt_recorder: Recorder
) -> Callable[[Model], None]:
    """`tt_judge_model(model)`: all metrics of a model of the test's own against the golden's logits; fails where a gate is missed.

    `model`: `harness.foreign.Model`, a callable from token ids and positions to logits, or an object with `prefill_forward` and
    `decode_forward`. The golden is of "model" (prefill) or of "teacher_forced" (decode).
    """
    from harness.foreign import logits_of
    from harness.run import text_scores
    from harness.run.outcomes import leave

    spec, golden = tt_golden_spec, tt_golden.output

    def run(model: Model) -> None:
        with leave():
            logits = logits_of(model, spec, tt_golden.inputs)
        if logits.shape != golden.shape or spec.rows == "last":
            tt_recorder.compare(logits, golden, "model")
            return
        tokens = tt_golden.inputs["tokens"]
        if spec.module == "teacher_forced":  # row i predicts the token after position seq_len - 1 + i
            tokens = tokens[:, spec.seq_len - 1 : -1]
        scores = text_scores.score(golden, logits, tokens, tt_session.decode)
        text_scores.judge(tt_recorder, golden, logits, scores)

    return run


@pytest.fixture
def tt_counters(tt_session: Session, tt_recorder: Recorder, tt_precision: str) -> CounterGate:
    """`tt_counters(run, phase="decode", batch=32, seq_len=128)`: exact counters of a pass as records, held against the baseline.

    Where the target captures no graph, nothing is counted, the record says so, and the test is skipped.
    """
    from harness.targets import active
    from harness.timing.gate import CounterGate

    target = active()
    if not target.native:
        reason = f"{target.name} ({target.what}) captures no graph to count in; --tt-target dryrun does"
        pytest.skip(reason)
    return CounterGate(tt_session, tt_recorder, tt_precision)


@pytest.fixture
def tt_latency(
    request: pytest.FixtureRequest, tt_session: Session, tt_recorder: Recorder, tt_precision: str
) -> Latency:
    """`tt_latency("decode", batch=32, seq_len=128, traced=True)`: the time of a pass as records, each with its clock.

    Mark the module with `pytest.mark.benchmark(timer=harness.timing.benchmark.now)`.
    """
    from harness.timing.benchmark import Latency

    return Latency(tt_session, tt_recorder, tt_precision, lambda: request.getfixturevalue("benchmark"))


@pytest.fixture(scope="session")
def mesh_device(tt_mesh_device: ttnn.MeshDevice) -> ttnn.MeshDevice:
    return tt_mesh_device


@pytest.fixture
def generator(tt_generator: tt_llm.Generator) -> tt_llm.Generator:
    return tt_generator


@pytest.fixture
def golden_spec(tt_golden_spec: GoldenSpec) -> GoldenSpec:
    return tt_golden_spec


@pytest.fixture
def golden(tt_golden: Golden) -> Golden:
    return tt_golden


@pytest.fixture
def recorder(tt_recorder: Recorder) -> Recorder:
    return tt_recorder


@pytest.fixture
def compare(tt_compare: Callable[..., object]) -> Callable[..., object]:
    return tt_compare


@pytest.fixture
def judge_model(tt_judge_model: Callable[[Model], None]) -> Callable[[Model], None]:
    return tt_judge_model


@pytest.fixture
def counters(tt_counters: CounterGate) -> CounterGate:
    return tt_counters


@pytest.fixture
def latency(tt_latency: Latency) -> Latency:
    return tt_latency


# What a test file that asks for the harness mentions.
NAMES = ("tt_precision", *(name for name in list(vars()) if name.startswith("tt_") and name != "tt_llm"))
