"""Ground-truth replay: calls that the real ttnn made on a simulated Wormhole, run again through the `ttnn` in place.

May be imported from here: the modules themselves, by the suites and benchmarks. They import ttnn, so a target is in place
before. Nothing here knows the emulator's internals: what answers `import ttnn` is held to what was recorded.
"""
