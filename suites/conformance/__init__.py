"""The emulator held against the real ttnn: the same model must take the same ops and give the same specs under both."""
