"""Each module alone, fed with the golden activations at its own boundary: what it adds to the error, not what it inherits."""
