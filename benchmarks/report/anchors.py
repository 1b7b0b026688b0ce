"""Permanent links: a name for every cell of every table, the same in every report of the same benchmarks."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

Place = tuple[str, str, str, str]  # benchmark, row, column, measure's label


def cell_anchors(places: Iterable[Place]) -> dict[Place, str]:
    """ "cell-fig4a-SSKD-25-last": letters, digits and . _ + - of the place's words. Places that would be called alike
    ("A B" and "A/B") all have a hash at their end, so no name depends on the order."""
    plain = {place: "-".join(("cell", *(_plain(word) for word in place))) for place in places}
    count = Counter(plain.values())
    return {place: name if count[name] == 1 else f"{name}-{_hash(place)}" for place, name in plain.items()}


def _plain(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+]+", "-", word).strip("-")


def _hash(place: Place) -> str:
    return hashlib.sha256("\0".join(place).encode()).hexdigest()[:8]
