"""What a call of ttnn is described with: dtypes, layouts, shapes, grids, memory configs and program configs. No values."""
