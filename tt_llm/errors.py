"""The one exception a user's mistake raises in `tt_llm`, and how it quotes another library's."""


class InputError(ValueError):
    """Bad input: a model, mesh, prompt or option that cannot work. The message is one line that names it and what would be right."""


def on_one_line(error: Exception) -> str:
    """What another library said, for the end of a message of ours."""
    return " ".join(str(error).split()) or type(error).__name__
