"""A Llama-like LLM written against the `ttnn` API: `load` it, then `prefill_forward`, `decode_forward`, `generate`.

May be imported from here: `load`, `Generator`, `InputError`. Imports ttnn when first used, so activate a target before
(`harness.targets.activate`). Must not import `harness` or `goldens`.
"""

from tt_llm.errors import InputError
from tt_llm.generator import Generator, load

__all__ = ["Generator", "InputError", "load"]
