"""Golden and device on the same tasks: one run of lm-eval each, one verdict for all."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

from ci.policy import Policy
from goldens import Reference
from harness.evaluation import samples, verdict
from harness.evaluation.lm_eval_model import BATCH_SIZE  # importing it registers the models
from harness.recorder import Recorder
from harness.records import Environment, Record, Results
from harness.settling import settle
from harness.targets import active
from tt_llm.checkpoint import locate
from tt_llm.precision import policy


def compare(arguments: Sequence[str], model: str, precisions: Sequence[str], out: Path) -> Results:
    """Runs lm-eval with these of its own arguments on the active target, golden first, then each precision.

    lm-eval's results and samples go below `out`, unless its --output_path names another folder.
    Raises UserError, InputError, GoldenError or PolicyError, one line, before a model is loaded where that is possible.
    """
    options = samples.parse(arguments)
    gates = Policy.load()
    for precision in precisions:
        policy(precision)
    identity = Reference(locate(model)).identity
    target = active()
    folder = Path(options.output_path or out / "lm-eval")
    golden = samples.run(
        options, "ttnn-golden", {"pretrained": model}, BATCH_SIZE, folder / "golden", identity
    )
    records: list[Record] = []
    for precision in precisions:
        gc.collect()  # the model before
        settings = {"target": target.name, "mesh": target.mesh, "precision": precision}
        if target.mode is not None:
            settings["emulator_mode"] = target.mode
        device = samples.run(
            options, "ttnn", {"pretrained": model, **settings}, BATCH_SIZE, folder / precision, identity
        )
        base = Record(
            test="lm-eval",
            module="none",
            metric="none",
            value=None,
            verdict="not_compared",
            target=target.name,
            mesh=target.mesh,
            precision=precision,
            batch=BATCH_SIZE,
        )
        verdict.judge(Recorder(base, gates, records.append, mode=target.mode), golden, device)
    environment = Environment.collect(
        target=target.name,
        mesh=target.mesh,
        model=model,
        weights_digest=identity,
        emulator_mode=target.mode,
    )
    return Results(environment, tuple(settle(records)))
