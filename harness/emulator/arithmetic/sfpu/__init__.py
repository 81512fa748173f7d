"""The SFPU: its functions, the rules they are made of, and its instructions on float32 lanes."""
