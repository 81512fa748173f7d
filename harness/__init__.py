"""The judge: runs a TT-NN LLM on a target, compares it with golden PyTorch outputs, and files every figure as a record.

May be imported from here: the subpackages `harness.targets`, `harness.metrics`, `harness.records`. The model under test
(`tt_llm`) never imports this package.
"""
