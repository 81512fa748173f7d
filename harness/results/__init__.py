"""Results of a run: the record (`schema`), joining files (`merging`), verdicts over many tests (`false_discovery`)."""
