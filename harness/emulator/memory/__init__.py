"""Where buffers lie in a device's DRAM and L1, and what becomes of the host's memory."""
