"""The meshes, and the mock cluster that has each: a file of this folder, which ttnn opens in place of boards."""

# (architecture, mesh) -> the file without its ending. The emulator takes a Wormhole's too.
CLUSTERS = {
    ("wormhole_b0", "1x1"): "n150",
    ("wormhole_b0", "1x2"): "n300",
    ("wormhole_b0", "1x8"): "t3k",
    ("wormhole_b0", "2x4"): "t3k",
    ("wormhole_b0", "8x4"): "galaxy",
    ("blackhole", "1x1"): "p150",
}
