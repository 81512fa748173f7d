"""The judge: runs a TT-NN LLM on a target, compares it with golden PyTorch outputs, and files every figure as a record.

The rooms, in the order in which a number passes through them: `plugin` and `cli` start a `run`; a target (`targets`, such as the
`emulator`) answers its `ttnn_calls`; `metrics` compare tensors; a figure becomes a record of `results`; `gates` hold result files
against the policy and a baseline, and `report` draws them. On these stand `timing`, `evaluation` (lm-eval tasks), `bisect` (which op
is wrong), `faults` (is a mistake caught) and `conformance` (is the emulator true to ttnn). The model under test (`tt_llm`) never
imports this package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def project_folder(name: str) -> Path:
    """A folder of the project that is no package: "suites" or "ci". A wheel has it inside this package, a checkout beside it."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
