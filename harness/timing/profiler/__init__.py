"""The profiler's file of ops: read, written from an op log without a card, and two of them compared op by op."""
