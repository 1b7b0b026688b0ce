"""The look of a method: one colour, marker and line in every figure and curve, whatever else is drawn beside it."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

# by name: on white, and on the page's dark ground
COLOURS = {
    "blue": ("#1f4e8c", "#8db8ee"),
    "orange": ("#c4541a", "#f0955c"),
    "green": ("#1c7a55", "#66c89c"),
    "purple": ("#8e3b8a", "#d58ad0"),
    "gold": ("#a88400", "#e0c04a"),
    "cyan": ("#2a8fb5", "#66c3e6"),
    "grey": ("#6d6d6d", "#a3a3a3"),
    "violet": ("#5a4fb0", "#a79df5"),
    "olive": ("#6b8e23", "#aecb62"),
    "brown": ("#8a5a35", "#c99a72"),
    "ink": ("#101214", "#f3f2ee"),
    "pink": ("#d02c7f", "#f587b8"),
    "teal": ("#008080", "#4fd0c4"),
    "wine": ("#7d1d3f", "#dc8fa8"),
}
DASHES = ((), (5, 2), (1.5, 1.5), (6, 1.5, 1.5, 1.5))  # of a line, in its widths; the page's classes d0 to d3


class Look(NamedTuple):
    """colour: a name of COLOURS; marker: matplotlib's; dash: a place in DASHES."""

    colour: str
    marker: str
    dash: int

    @property
    def hex(self) -> str:
        return COLOURS[self.colour][0]


METHOD_LOOKS = {
    "Teacher": Look("ink", "*", 0),
    "Student": Look("grey", "s", 1),
    "KD": Look("blue", "o", 0),
    "FitNet": Look("gold", "v", 1),
    "AT": Look("green", "^", 2),
    "SP": Look("cyan", "<", 1),
    "VID": Look("brown", ">", 3),
    "RKD": Look("violet", "p", 2),
    "PKT": Look("olive", "h", 3),
    "AB": Look("cyan", "d", 2),
    "FT": Look("gold", "P", 3),
    "CC": Look("violet", "X", 0),
    "NST": Look("brown", "8", 1),
    "FSP": Look("olive", "H", 2),
    "DKD": Look("blue", "d", 3),
    "CRD": Look("purple", "D", 3),
    "SSKD": Look("orange", "s", 0),
}
VARIANT_MARKERS = ("X", "P", "d", "v")  # of a method with other settings, which keeps the method's colour
OWN = [Look(colour, marker, dash) for dash, marker in enumerate("DvPX") for colour in ("pink", "teal", "wine")]
OTHER = [Look(colour, marker, dash) for dash, marker in enumerate("o^sv") for colour in COLOURS]


def looks(rows: Iterable[str]) -> dict[str, Look]:
    """Returns every row's look. The suite's methods have theirs from the table above, "SSKD without ss" or "CRD+KD" the
    colour of the method that they begin with; other rows (a user's method) have one that follows from the name, moved
    on where it is taken, so that no two rows look the same."""
    names = sorted(set(rows))
    result = {name: METHOD_LOOKS[name] for name in names if name in METHOD_LOOKS}
    for name in names:
        if name not in result:
            choices = _choices(name)
            result[name] = next((look for look in choices if look not in result.values()), choices[0])
    return result


def _choices(name: str) -> list[Look]:
    """Returns the looks that a row may have that is not in the table, the first choice first."""
    base = next((known for known in METHOD_LOOKS if name.startswith((f"{known}+", f"{known} ", f"{known},"))), None)
    own, more = OWN, OTHER
    if base:
        colour, _, usual = METHOD_LOOKS[base]
        own = [Look(colour, marker, dash) for marker in VARIANT_MARKERS for dash in (2, 1, 3, 0) if dash != usual]
        more = []
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(own)
    return own[start:] + own[:start] + more
