"""The whole model: logits, KV cache, generated text, and the invariances that batching and paging must keep."""
