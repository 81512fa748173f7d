"""What an LLM on TT-NN costs: exact counters of what its ops do. May be imported from here: `counters`, `baselines`."""
