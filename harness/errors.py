"""The exception for what a user gave wrongly, and how such errors leave the program."""

USAGE_EXIT = 2


class UserError(ValueError):
    """Bad input. The message is one line that names the thing, its value and what would be right."""
