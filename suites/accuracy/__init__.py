"""The whole model over real text: perplexity, KL divergence, top-1 and top-5, prefilled and decoded."""
