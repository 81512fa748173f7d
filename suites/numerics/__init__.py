"""What the real ttnn computed on a simulated Wormhole, op by op and whole, computed again and compared bit for bit."""
