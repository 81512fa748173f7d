"""What a Wormhole computes, bit for bit, on torch tensors: formats, the matrix unit, the SFPU, and mode fast's products."""
