"""RMS norm and layer norm, on one device and over several."""
