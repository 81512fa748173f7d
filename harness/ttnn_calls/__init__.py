"""Calls of ttnn, whoever answers them: the log of them (`op_log`), and what was refused and where (`refusals`)."""
