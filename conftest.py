"""Makes `pytest suites` and `pytest tests` right from a checkout that is not installed: finds the packages, loads the plugin."""

from __future__ import annotations

import copy
import os
import shlex
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Loads the plugin where no entry point has, and has it do what it does before any conftest: put a target in place."""
    from harness.plugin import hooks

    if pluginmanager.is_registered(hooks):
        return
    if pluginmanager.has_plugin("tt_harness"):  # of an older checkout's egg-info, which lies beside this file
        pluginmanager.unregister(name="tt_harness")
    os.environ["PYTEST_PLUGINS"] = hooks.__name__  # for the processes that tests start
    pluginmanager.register(hooks, hooks.__name__)
    config: pytest.Config = pluginmanager.get_plugin("pytestconfig")
    arguments = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    arguments += config.invocation_params.args
    config.known_args_namespace = parser.parse_known_args(arguments, copy.copy(config.option))
    hooks.pytest_load_initial_conftests(config)
