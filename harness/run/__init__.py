"""One run of the tests on a target.

`options` says what was asked for. `session` holds the model. `goldens` says which goldens a test runs against, and has them made.
`module_runner` runs a module, `recorder` judges what came out, `outcomes` gathers the records of all tests. The others keep a run
going: `journal` resumes it, `crashes` isolates it.
"""
