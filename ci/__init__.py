"""What is held against what: the policy (gates and guidelines by metric, module and precision), baselines, and the gate.

`policy` says what holds for a measurement, `results` reads what a gate needs of a results file, `baseline` keeps the accepted
figures and why, `sessions` tells slower from noise, `gate` judges. Import from those modules. This package reads result files
and its own YAML only: it never imports harness, never runs a model, and a gate here is never loosened to make a run pass.
"""
