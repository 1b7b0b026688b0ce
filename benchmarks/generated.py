"""Files of the repository that follow from its code. After a change to what they say: python -m benchmarks.generated

`--check` only says which are stale, and ends with 1 if any is; a test asks it.
(`python -m benchmarks.statistics.simulate --write` makes its table in minutes.)
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import format_page, methods_page
from sskd.paths import ROOT

GENERATED: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "methods.md": methods_page.page,
    ROOT / "docs" / "results_format.md": format_page.page,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generated")
    parser.add_argument("--check", action="store_true", help="write nothing: say which files are stale")
    check = parser.parse_args().check
    status = 0
    for file, content in GENERATED.items():
        made = content()
        if file.exists() and file.read_text(encoding="utf-8") == made:
            continue
        if check:
            print(f"{file.relative_to(ROOT)} is stale: python -m benchmarks.generated")
            status = 1
        else:
            file.write_text(made, encoding="utf-8")
            print(f"{file.relative_to(ROOT)} is written anew")
    return status


if __name__ == "__main__":
    sys.exit(main())
