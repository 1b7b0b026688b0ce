"""Formats durations, counts and lists for people."""

from collections.abc import Iterable, Sequence


def duration(seconds: float) -> str:
    """Formats seconds as 3 s, 2 min 5 s, 4 h 10 min, or 3 d 2 h."""
    seconds = round(seconds)
    for size, unit, small, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {small_unit}"
    return f"{seconds} s"


def plural(count: int, noun: str) -> str:
    """Formats a count with a noun: "1 run", "2 runs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def first_of(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """Formats the first names of a list and the number of the others: "a, b, c and 4 more"."""
    rest = len(names) - most
    return between.join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """Formats a Markdown table. The columns ``numbers`` are aligned to the right. Text is not escaped."""
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (head, rule, *rows))
