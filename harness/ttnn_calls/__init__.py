"""Calls of ttnn, whoever answers them: the log of them (`op_log`), the line of model code they come from (`call_sites`), what each should
give (`op_goldens`), and what was refused (`refusals`).
"""
