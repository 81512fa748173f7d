"""The one exception a user's mistake raises in `tt_llm`."""


class InputError(ValueError):
    """Bad input: a model, mesh, prompt or option that cannot work. The message is one line that names it and what would be right."""
