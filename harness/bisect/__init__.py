"""Which op of a model diverges from its fp32 golden, and where more precision would buy most."""
