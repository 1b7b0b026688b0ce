"""Errors that a person reads: what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The command line prints its text as one line and exits with status 2, without a traceback."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``name``, ignoring case; None if none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[match[0]] if match else None


def unknown(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """The error for a name that is not one of ``choices``: the name, the nearest match, the list."""
    choices = sorted(choices)
    near = nearest(name, choices)
    hint = f"; did you mean '{near}'?" if near else "."
    return UserError(f"unknown {kind} '{name}'{hint} Known: {', '.join(choices) or 'none'}")
