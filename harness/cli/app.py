"""The command line, `tt-harness`: its commands, and how they end."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from harness.cli.commands.baseline import baseline_app
from harness.cli.commands.bisect import bisect
from harness.cli.commands.compare import compare
from harness.cli.commands.doctor import doctor
from harness.cli.commands.faults import faults
from harness.cli.commands.gate import gate
from harness.cli.commands.goldens import goldens_app
from harness.cli.commands.history import history
from harness.cli.commands.lm_eval import lm_eval
from harness.cli.commands.merge import merge
from harness.cli.commands.op_report import op_diff, op_report
from harness.cli.commands.policy import policy_app
from harness.cli.commands.run import run
from harness.errors import ending


class Commands(TyperGroup):
    """A group of commands none of which ends with 1 by an exception."""

    def invoke(self, ctx: Any) -> Any:
        with ending():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help="Is the TT-NN LLM still right?"
)
app.add_typer(goldens_app, name="goldens")
app.add_typer(baseline_app, name="baseline")
app.add_typer(policy_app, name="policy")
app.command()(bisect)
app.command()(compare)
app.command()(doctor)
app.command()(faults)
app.command()(gate)
app.command()(history)
app.command("lm-eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(lm_eval)
app.command()(merge)
app.command("op-diff")(op_diff)
app.command("op-report")(op_report)
app.command()(run)


if __name__ == "__main__":
    app()
