"""Is the emulator true to ttnn? Held against the real one: a model's ops (`stream`), single calls (`calls`), values (`numerics`)."""
