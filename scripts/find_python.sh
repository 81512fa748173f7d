#!/bin/sh
# Prints the interpreter the environment is made with: Python 3.12, else 3.10 (the two that ttnn has wheels for),
# on PATH or under pyenv; with neither, the newest Python from 3.11 on, and a line on stderr that says what is lost.
# A candidate counts only if it starts: pyenv's shims exist for versions that are not selected and then refuse.

usable() { "$1" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != ($2))" >/dev/null 2>&1; }

find_version() { # $1: major.minor
    tuple=$(echo "$1" | tr . ,)
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python python3 python; do
        path=$(command -v "$candidate" 2>/dev/null) && usable "$path" "$tuple" && echo "$path" && return 0
    done
    return 1
}

find_version 3.12 && exit 0
find_version 3.10 && exit 0
for version in 3.14 3.13 3.11; do
    if find_version $version; then
        echo "Python 3.12 or 3.10 not found; using $version, for which ttnn has no wheel:" \
            "the emulator works, the dryrun, ttsim and silicon targets do not." >&2
        exit 0
    fi
done
echo "no usable Python found: install Python 3.12 (or 3.10) with its venv module" >&2
exit 1
