"""Makes a plain Hugging Face folder, once, of what is none: of a GGUF, and of a folder whose weights are quantised.

Golden and device then read the same files, which hold nothing but floats. Nothing else knows the formats.
"""

from tt_llm.conversion.cache import plain_folder

__all__ = ["plain_folder"]
