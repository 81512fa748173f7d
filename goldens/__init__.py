"""What "right" means: the Hugging Face model run in plain PyTorch, its activations and logits kept as
goldens.

`windows` cuts a corpus into token windows, `Reference` runs the model with taps, `GoldenSpec` names a golden,
`make` computes what is missing and `GoldenStore` keeps it. Import the names below from here. Nothing in this
folder may import ttnn, tt_llm or harness: a golden must not know what it will be compared with.
"""

from goldens.catalog import GOLDEN_FORMAT, MODULES, GoldenSpec, decode_positions, key
from goldens.corpus import Text, load_text, windows
from goldens.dummy import dummy_golden
from goldens.errors import CorpusError, GoldenCorrupt, GoldenError, GoldenMissing, GoldenStale
from goldens.make import make, missing
from goldens.prompts import FIRST_PROMPTS, PROMPTS
from goldens.reference import Reference
from goldens.registers import N_WINDOWS, REGISTERS
from goldens.store import Golden, GoldenStore

__all__ = [
    "FIRST_PROMPTS",
    "GOLDEN_FORMAT",
    "MODULES",
    "N_WINDOWS",
    "PROMPTS",
    "REGISTERS",
    "CorpusError",
    "Golden",
    "GoldenCorrupt",
    "GoldenError",
    "GoldenMissing",
    "GoldenSpec",
    "GoldenStale",
    "GoldenStore",
    "Reference",
    "Text",
    "decode_positions",
    "dummy_golden",
    "key",
    "load_text",
    "make",
    "missing",
    "windows",
]
