"""The program `tt-harness`. `app` gathers its commands, a file of `commands` for each."""
