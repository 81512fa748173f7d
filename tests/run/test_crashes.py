"""How what a dying process wrote becomes a failure. Real crashes: tests/suites/test_dryrun.py."""

from __future__ import annotations

from harness.run import crashes

RUNNER = '  File "/venv/lib/python3.12/site-packages/_pytest/python.py", line 187 in pytest_pyfunc_call\n'
DECORATORS = '  File "/venv/lib/python3.12/site-packages/ttnn/decorators.py", line 492 in __call__\n'
CRASHED = f"""Fatal Python error: Segmentation fault

Thread 0x00007fd223fff6c0 (most recent call first):
  File "/venv/lib/python3.12/site-packages/execnet/gateway_base.py", line 534 in read

Current thread 0x00007fd2242d6b80 (most recent call first):
{DECORATORS}  File "/model/norm.py", line 7 in forward
  File "/model/test_norm.py", line 3 in test_norm
{RUNNER}"""


def test_the_first_line_names_the_call() -> None:
    """The thread that ran the test counts, and in it the line that called ttnn; the stack of the test follows."""
    first, *rest = crashes.explain(CRASHED, 600).splitlines()
    assert first == "ttnn at /model/norm.py:7: the process crashed (Segmentation fault)"
    assert [line.strip() for line in rest if line] == [
        "/model/test_norm.py:3",
        "/model/norm.py:7",
        "/venv/lib/python3.12/site-packages/ttnn/decorators.py:492",
    ]


def test_a_hang_says_how_long_it_was_waited_for() -> None:
    """The limit is named with the option that changes it; a call with no frame of ttnn's is the innermost line."""
    stderr = f'Timeout (0:00:09)!\nThread 0x1 (most recent call first):\n  File "{__file__}", line 1 in f\n{RUNNER}'
    assert crashes.explain(stderr, 9).splitlines()[0].endswith("no answer within 9 s (--tt-time-limit)")


def test_a_killed_process_is_a_failure_that_says_so() -> None:
    """Nothing was written, as when the kernel takes the process for want of memory: no op is made up."""
    assert "was killed" in crashes.explain("", 600)
