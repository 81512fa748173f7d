"""The pytest plugin: `hooks` wires a run together, `fixtures` are what a test asks for."""
