"""Ways of running a model that must not change its answer."""
