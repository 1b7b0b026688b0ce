"""Style of a method: the same colour, marker and line in every figure, independent of the other rows."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

# name: (on white, on the page's dark background)
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
DASHES = ((), (5, 2), (1.5, 1.5), (6, 1.5, 1.5, 1.5))  # dash patterns in line widths; the page's classes d0 to d3


class Style(NamedTuple):
    """Style of a row in figures. colour: a key of COLOURS. marker: matplotlib's. dash: an index of DASHES."""

    colour: str
    marker: str
    dash: int

    @property
    def hex(self) -> str:
        return COLOURS[self.colour][0]


METHOD_STYLES = {
    "Teacher": Style("ink", "*", 0),
    "Student": Style("grey", "s", 1),
    "KD": Style("blue", "o", 0),
    "FitNet": Style("gold", "v", 1),
    "AT": Style("green", "^", 2),
    "SP": Style("cyan", "<", 1),
    "VID": Style("brown", ">", 3),
    "RKD": Style("violet", "p", 2),
    "PKT": Style("olive", "h", 3),
    "AB": Style("cyan", "d", 2),
    "FT": Style("gold", "P", 3),
    "CC": Style("violet", "X", 0),
    "NST": Style("brown", "8", 1),
    "FSP": Style("olive", "H", 2),
    "DKD": Style("blue", "d", 3),
    "CRD": Style("purple", "D", 3),
    "SSKD": Style("orange", "s", 0),
}
VARIANT_MARKERS = ("X", "P", "d", "v")  # markers of a method's variants, which keep its colour
OWN = [Style(colour, marker, dash) for dash, marker in enumerate("DvPX") for colour in ("pink", "teal", "wine")]
OTHER = [Style(colour, marker, dash) for dash, marker in enumerate("o^sv") for colour in COLOURS]


def styles_of(rows: Iterable[str]) -> dict[str, Style]:
    """Returns every row's style; no two rows have the same one.

    The suite's methods have the style in METHOD_STYLES. A variant ("SSKD without ss", "CRD+KD") has the colour of its
    method. The style of any other row (a user's method) follows from a hash of its name, or is the next free one.
    """
    names = sorted(set(rows))
    result = {name: METHOD_STYLES[name] for name in names if name in METHOD_STYLES}
    for name in names:
        if name not in result:
            choices = _choices(name)
            result[name] = next((style for style in choices if style not in result.values()), choices[0])
    return result


def _choices(name: str) -> list[Style]:
    """Returns the possible styles of a row that is not in METHOD_STYLES, the first choice first."""
    base = next((known for known in METHOD_STYLES if name.startswith((f"{known}+", f"{known} ", f"{known},"))), None)
    own, more = OWN, OTHER
    if base:
        colour, _, usual = METHOD_STYLES[base]
        own = [Style(colour, marker, dash) for marker in VARIANT_MARKERS for dash in (2, 1, 3, 0) if dash != usual]
        more = []
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(own)
    return own[start:] + own[:start] + more
