"""Answers every call under one target: `python -m harness.conformance.calls TARGET FILE`."""

import json
import sys
from pathlib import Path

from harness.conformance.calls import CASES, scope
from harness.errors import ending
from harness.targets import TARGETS, activate


def main(target: str, file: str) -> None:
    activate(target)
    import ttnn

    names, outcomes = scope(ttnn), {}
    # Without dispatch: what is legal is decided before it, and dispatching some of the illegal calls crashes the process.
    graph = ttnn.graph if TARGETS[target].native else None
    for name, case in CASES.items():
        if graph is not None:
            graph.begin_graph_capture(graph.RunMode.NO_DISPATCH)
        try:
            outcomes[name] = names["describe"](eval(case["call"], names))
        except (RuntimeError, TypeError, ValueError):  # what either ttnn refuses a call with
            outcomes[name] = "refused"
        finally:
            if graph is not None:
                graph.end_graph_capture()
    Path(file).write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    with ending():
        main(*sys.argv[1:])
