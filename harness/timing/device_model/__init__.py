"""The device model: what a chip can do at most, what each op asks of it, how long a pass takes by that, and how far off that is."""
