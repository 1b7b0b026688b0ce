"""Escapes text that others wrote (names of runs, hosts, devices, labels) in Markdown and CSV.

HTML is escaped by the templates, LaTeX by report/tables.py.
"""

import html
import re

import pandas as pd

FORMULA = "=+-@\t\r\n＝＋－＠"  # first characters of a spreadsheet's formula
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SPECIAL = re.compile(r"[\\`*|]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def markdown_text(text: object) -> str:
    """Escapes text for Markdown, also within a table's cell: one line, shown literally."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return SPECIAL.sub(lambda found: f"\\{found[0]}", html.escape(" ".join(line.split()), quote=False))


def csv_text(frame: pd.DataFrame) -> str:
    """Returns the frame as CSV, without its index. Text that a spreadsheet would interpret as a formula is prefixed
    with an apostrophe, which spreadsheets do not show. Numbers stay numbers."""
    numeric = pd.api.types.is_numeric_dtype
    columns = {name: frame[name] if numeric(frame[name]) else frame[name].map(_inert) for name in frame}
    safe = pd.DataFrame(columns, index=frame.index)
    safe.columns = [_inert(name) for name in frame]
    return safe.to_csv(index=False)


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    computes = value[1:] and value[0] in FORMULA and not NUMBER.fullmatch(value)
    text = value.replace("\r", " ")  # some readers end a row at a single \r, which the csv module does not quote
    return f"'{text}" if computes else text
