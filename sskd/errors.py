"""Errors that a person reads: what is wrong, where, and what to do."""

import difflib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Bad input. The command line prints its text as one line and exits with status 2, without a traceback.

    What is quoted of the input may have line ends or control characters in it: they are shown, not printed."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


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


def refuse_null_bytes(arguments: Sequence[str]) -> None:
    """UserError for an option that no file system takes as a path."""
    for argument in arguments:
        if "\0" in argument:
            raise UserError(f"the option {argument!r} has a null byte in it")


def described(error: BaseException, file: str = "") -> str:
    """Kind, words and place of what a user's own code raised, in one line; of the places the last in ``file``, or the
    last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


def in_words(error: UserError | OSError) -> str:
    """What is wrong, in one line; of what the system refuses, with the file's name."""
    if isinstance(error, UserError):
        return str(error)
    what = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"cannot use {error.filename}: {what}" if error.filename is not None else what


def source_of(thing: Any) -> tuple[str, int]:
    """File and first line of a function, a property or a class; ("", 0) where they cannot be told."""
    import inspect  # where something is wrong: it takes as long to import as the rest of this file

    if isinstance(thing, property):
        thing = thing.fget
    code = getattr(inspect.unwrap(getattr(thing, "func", thing)), "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    try:
        return inspect.getsourcefile(thing) or "", inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return "", 0
