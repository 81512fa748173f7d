"""Runs commands, each in a forked process of its own, from one process that has imported the slow libraries already.

A request is a line of JSON on stdin: `argv` ("pytest", "tt-harness" or "python" with code), `cwd`, `out` and `err` (the
files its output goes to), `file_limit` (bytes, null for none). The answer is a line with its exit status.
Nothing imported here may be ttnn, the harness or the goldens: a run does that itself.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from typing import Any

import torch  # noqa: F401 - imported once here, so that no forked run has to
import transformers.models.llama.modeling_llama  # noqa: F401 - likewise


def run(argv: list[str]) -> int:
    program, *arguments = argv
    sys.argv = argv
    if program == "pytest":
        import pytest

        return int(pytest.main(arguments))
    if program == "python":
        exec(arguments[0], {"__name__": "__main__"})
        return 0
    from harness.cli.app import app

    app(arguments)
    return 0


def child(request: dict[str, Any]) -> int:
    os.chdir(request["cwd"])
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if request["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"],) * 2)
    try:
        return run(request["argv"])
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1


def main() -> None:
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = child(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
