"""What is held against what: the policy (gates and guidelines by metric, module and precision).

Import Policy, Rule, PolicyError and judge from ``ci.policy``. This package reads result files and its own YAML only:
it never imports harness, never runs a model, and a gate here is never loosened to make a run pass.
"""
