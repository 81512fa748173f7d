"""The modules of the LLM, in the order data meets them: embedding, rope, norm, attention, sdpa, mlp, moe, decoder, lm_head.

Each takes and returns ttnn tensors. Prefill activations are [1, 1, S, width] in interleaved DRAM, one user at a time;
decode activations are [1, 1, 32, width] width-sharded in L1, one row a user. Nothing here imports the harness.
"""
