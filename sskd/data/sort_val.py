"""Sorts ImageNet's flat validation images into one folder for each class.

    python -m sskd.data.sort_val imagenet/val --devkit ILSVRC2012_devkit_t12     the development kit, unpacked
    python -m sskd.data.sort_val imagenet/val --labels FILE                      lines of "<image> <class>"

Files are moved, and what is sorted already is left where it is: a second start finishes what a first began.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sskd.arguments import Parser
from sskd.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 2 with one line for bad input."""
    parser = Parser(prog="python -m sskd.data.sort_val", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the images")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--devkit", type=Path, help="folder of the unpacked ILSVRC2012_devkit_t12")
    source.add_argument("--labels", type=Path, help="text file: an image and its class on each line")
    options = parser.parse_args(arguments)
    try:
        classes = from_devkit(options.devkit) if options.devkit else from_text(options.labels)
        print(f"sorted {sort(options.folder, classes)} images of {len(classes)}")
    except UserError as error:
        print(f"sort_val: {error}", file=sys.stderr)
        return 2
    return 0


def sort(folder: Path, classes: dict[str, str]) -> int:
    """Moves <folder>/<image> to <folder>/<class>/<image>; how many. UserError, before anything moves, if one is
    missing."""
    missing = [n for n, c in classes.items() if not (folder / n).is_file() and not (folder / c / n).is_file()]
    if missing:
        raise UserError(f"{folder} lacks {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""))
    for wnid in set(classes.values()):
        (folder / wnid).mkdir(exist_ok=True)
    here = [name for name in classes if (folder / name).is_file()]
    for name in here:
        os.replace(folder / name, folder / classes[name] / name)
    return len(here)


def from_text(file: Path) -> dict[str, str]:
    """Image name to class."""
    pairs = [line.split() for line in _lines(file)]
    wrong = next((number for number, pair in enumerate(pairs, 1) if len(pair) != 2), None)
    if wrong:
        raise UserError(f"{file}, line {wrong}: expected an image and its class")
    return {pair[0]: pair[1] for pair in pairs}


def from_devkit(folder: Path) -> dict[str, str]:
    """Image name to class, from the kit's list of labels and its table of classes."""
    from scipy.io import loadmat  # reads numbers and texts; executes nothing

    truth, table = folder / "data" / "ILSVRC2012_validation_ground_truth.txt", folder / "data" / "meta.mat"
    numbers = _lines(truth)
    try:
        synsets = loadmat(str(table), squeeze_me=True)["synsets"]
        wnids = {int(number): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)}
        return {f"ILSVRC2012_val_{i:08d}.JPEG": wnids[int(number)] for i, number in enumerate(numbers, 1)}
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise UserError(f"{table} cannot be read as the kit's table of classes: {error}") from None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None


if __name__ == "__main__":
    raise SystemExit(main())
