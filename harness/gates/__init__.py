"""What is held against what: the policy (gates and guidelines by metric, module and precision), baselines, and the gate.

`policy` says what holds for a measurement, `results` reads what a gate needs of a results file, `baseline` keeps the accepted
figures and why, `sessions` tells slower from noise, `gate` judges. Import from those modules. They read result
files and YAML only: nothing here runs a model, and a gate is never loosened to make a run pass.
"""
