"""What an LLM on TT-NN costs: exact counters of what its ops do, and times, by a card's clock or the device model's."""
