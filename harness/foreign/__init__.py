"""Anyone's code on TT-NN, held against PyTorch: a model by its logits, a module by its ops.

May be imported from here: what `__all__` names. `model` runs a callable over a golden's text; `ops` watches every op that runs
on target shadow; `partings` says which of them parts from a PyTorch module.
"""

from harness.foreign.model import Model, logits_of
from harness.foreign.ops import OpStep, Watched, watched
from harness.foreign.partings import Parting, parting

__all__ = ["Model", "OpStep", "Parting", "Watched", "logits_of", "parting", "watched"]
