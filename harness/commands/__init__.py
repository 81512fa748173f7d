"""The commands of `tt-harness`, a module each; `harness/cli.py` registers them."""
