"""Golden and device on the same tasks: lm-eval runs each, and one verdict is on all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from goldens import Reference
from harness.emulator import cpu_path
from harness.evaluation import verdict
from harness.evaluation.lm_eval_model import DeviceLM, GoldenLM, check_computes
from harness.evaluation.samples import Evaluation
from harness.gates.policy import Policy
from harness.report.reproduce import ARGUMENTS
from harness.results.false_discovery import controlled
from harness.results.schema import Environment, Record, Results
from harness.run.recorder import Recorder
from harness.targets import active
from tt_llm.checkpoint import locate
from tt_llm.precision import named


def compare(arguments: Sequence[str], model: str, precisions: Sequence[str]) -> Results:
    """Runs lm-eval with these of its own arguments on the active target: the golden first, then each precision.

    Raises UserError, InputError, GoldenError or PolicyError, one line, where it can before a model is loaded.
    """
    check_computes()
    evaluation = Evaluation(arguments)
    gates = Policy.load()
    for precision in precisions:
        named(precision)
    identity = Reference(locate(model)).identity
    target = active()
    model_settings = {"pretrained": model, **evaluation.model_args}
    golden = evaluation.run(GoldenLM(**model_settings), model_settings, identity, "golden")
    records: list[Record] = []
    for precision in precisions:
        settings = {"target": target.name, "mesh": target.mesh, "emulator_mode": target.mode}
        of_device = {**model_settings, **settings, "precision": precision}
        with closing(DeviceLM(**of_device)) as lm:
            device = evaluation.run(lm, of_device, identity, precision)
        base = Record(
            test="lm-eval",
            module="none",
            metric="none",
            value=None,
            verdict="not_compared",
            target=target.name,
            mesh=target.mesh,
            precision=precision,
        )
        verdict.judge(Recorder(base, gates, records.append, mode=target.mode), golden, device)
    environment = Environment.collect(
        target=target.name,
        mesh=target.mesh,
        model=model,
        weights_digest=identity,
        emulator_mode=target.mode,
        cpu_path=cpu_path() if target.emulated else None,
    )
    command = {ARGUMENTS: shlex.join(arguments)}
    return Results(
        environment,
        tuple(replace(record, details={**record.details, **command}) for record in controlled(records)),
    )
