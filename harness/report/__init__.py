"""Draws a results file: on the terminal, as one HTML page, and as GitHub shows it.

Import render and write_html from here. A report never recomputes, never judges and never runs anything: it shows what
the records say, first of all what is not "pass". It reads these keys of a record's details, where present:
``stderr`` (kl), ``perplexity``, ``golden_perplexity``, ``change`` (perplexity_error), and ``prompt``, ``text``,
``golden_text`` (agreement_length), those that `tokens.TOKENS` names, and those of `tables.latency` and `tables.numerics`.
"""

from harness.report.html import write_html
from harness.report.terminal import render

__all__ = ["render", "write_html"]
