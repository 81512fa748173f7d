"""From a call to its computation: the tensor, the dispatch of ops, traces, and race detection."""
