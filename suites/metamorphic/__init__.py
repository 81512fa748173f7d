"""What must not change an answer, held against the same device's own answer: no golden, so these run wherever numbers come out."""
