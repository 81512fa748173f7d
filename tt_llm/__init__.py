"""A Llama-like LLM written against the `ttnn` API: `load` it, then `prefill_forward`, `decode_forward`, `generate`.

`load_modules` has its modules alone. May be imported from here: `load`, `load_modules`, `Generator`, `Modules`, `InputError`.
Imports ttnn when first used, so activate a target before (`harness.targets.activate`). Must not import `harness` or `goldens`.
"""

from tt_llm.errors import InputError
from tt_llm.generator import Generator
from tt_llm.loading import load, load_modules
from tt_llm.model import Modules

__all__ = ["Generator", "InputError", "Modules", "load", "load_modules"]
