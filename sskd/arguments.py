"""The parser of all command lines: a wrong option gives one line, which suggests the nearest valid option."""

import argparse
import codecs
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from sskd.errors import nearest


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints one line for an error (exit status 2). Options cannot be abbreviated, and an
    unknown option is reported before any other error. ``verbs``: options that people expect to be verbs, and these
    verbs."""

    verbs: Mapping[str, str] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        args = list(sys.argv[1:] if args is None else args)
        known = set(self._options())
        for word in args[: args.index("--")] if "--" in args else args:
            name = word.partition("=")[0]
            if re.fullmatch("--[A-Za-z][A-Za-z-]*", name) and name not in known:
                if name in self.verbs:
                    self.error(f"{name} is no option: use the verb, {self.prog} {self.verbs[name]}")
                self.error(f"unknown option {name}{_meant(name, known)}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += _meant(choice[1], {name.strip(" '\"") for name in choice[2].split(",")})
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see --help)\n")

    def _options(self) -> Iterator[str]:
        """Yields the names of all options, including those of subcommands."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._options()


def replace_unencodable_output() -> None:
    """Makes stdout and stderr print "?" for characters that the terminal's encoding lacks, and undecodable bytes of
    file names unchanged, instead of raising an error."""
    codecs.register_error("sskd-print", _replace_unencodable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="sskd-print")


def _replace_unencodable(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = [ord(character) for character in error.object[error.start : error.end]]
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end


def file_path(text: str) -> Path:
    """Type of options that name a file or folder; ~ is expanded to the user's home."""
    return Path(os.path.expanduser(text))


def _meant(word: str, known: set[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""
