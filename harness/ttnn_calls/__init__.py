"""Calls of ttnn, whoever answers them: the log of them (`op_log`), the line they come from (`call_sites`), and what
was refused (`refusals`).
"""
