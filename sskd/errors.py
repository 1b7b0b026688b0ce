"""Errors for the user: what is wrong, where, and what to do."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Invalid input. The command line prints its text as one line and exits with status 2, without a traceback.

    Line breaks and control characters in quoted input are escaped.
    """

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Returns the choice that is most similar to ``name``, ignoring case; None if none is similar."""
    by_lower = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[match[0]] if match else None


def unknown(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Returns the error for a name that is not one of ``choices``, with the nearest choice and the list."""
    choices = sorted(choices)
    near = nearest(name, choices)
    hint = f"; did you mean '{near}'?" if near else "."
    return UserError(f"unknown {kind} '{name}'{hint} Known: {', '.join(choices) or 'none'}")


def described(error: BaseException, file: str = "") -> str:
    """Returns type, message and location of an exception from the user's code, in one line. The location is the
    innermost frame in ``file``, or the innermost frame if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


def in_words(error: UserError | OSError) -> str:
    """Returns the error's message in one line; for an OSError with the name of the file."""
    if isinstance(error, UserError):
        return str(error)
    what = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"cannot use {error.filename}: {what}" if error.filename is not None else what


def source_of(thing: Any) -> tuple[str, int]:
    """Returns the file and first line of a function, property or class; ("", 0) if unknown."""
    import inspect  # only imported for errors, because the import is slow

    if isinstance(thing, property):
        thing = thing.fget
    code = getattr(inspect.unwrap(getattr(thing, "func", thing)), "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    try:
        return inspect.getsourcefile(thing) or "", inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return "", 0
