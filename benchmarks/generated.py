"""Files of the repository that follow from its code. After a change to what they say: python -m benchmarks.generated

A test compares each with the code. (`python -m benchmarks.analysis.simulate --write` makes its table in minutes.)
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.listing import CATALOGUE, catalogue
from benchmarks.report import format_page, methods_page
from sskd.places import ROOT

GENERATED: dict[Path, Callable[[], str]] = {
    CATALOGUE: catalogue,
    ROOT / "docs" / "methods.md": methods_page.page,
    ROOT / "docs" / "results_format.md": format_page.page,
}


def main() -> None:
    for file, content in GENERATED.items():
        file.write_text(content())


if __name__ == "__main__":
    main()
