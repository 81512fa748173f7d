"""How fast the whole model is: time to the first token and decode steps, by the clock that each record names."""
