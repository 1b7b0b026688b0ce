"""Sorts ImageNet's flat validation images into one folder per class.

    python -m sskd.data.sort_val imagenet/val --devkit ILSVRC2012_devkit_t12     the development kit, unpacked
    python -m sskd.data.sort_val imagenet/val --labels FILE

FILE is Kaggle's LOC_val_solution.csv, or a text file with an image and its class per line, or with one class per line
in the order of the images. A class is the name of a folder of imagenet/train, or its index there, from 0 (Caffe's
val.txt). Files are moved; files that are already in a class folder stay there, so an interrupted run can be repeated.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sskd.arguments import Parser
from sskd.config.fields import check_plain_name
from sskd.data.class_folders import class_names
from sskd.errors import UserError
from sskd.formatting import first_of

LabelledImages = list[tuple[str, str]]  # (image name, class)
ENDINGS = (".jpeg", ".jpg", ".png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 after one line for bad input."""
    parser = Parser(
        prog="python -m sskd.data.sort_val",
        description=__doc__.partition("\n\n")[0],
        epilog=__doc__.rpartition("\n\n")[2],
    )
    parser.add_argument("folder", type=Path, help="folder of the images")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--devkit", type=Path, help="unpacked folder ILSVRC2012_devkit_t12")
    source.add_argument(
        "--labels", type=Path, help="LOC_val_solution.csv, val.txt, or a text file of images and classes"
    )
    options = parser.parse_args(arguments)
    try:
        pairs = from_devkit(options.devkit) if options.devkit else from_text(options.labels, options.folder)
        classes = by_image(pairs, options.folder)
        print(f"sorted {sort(options.folder, classes)} images of {len(classes)}")
    except UserError as error:
        print(f"sort_val: {error}", file=sys.stderr)
        return 2
    return 0


def sort(folder: Path, classes: dict[str, str]) -> int:
    """Moves <folder>/<image> to <folder>/<class>/<image> and returns the number of moved images. Raises UserError,
    before anything is moved, if an image is missing."""
    missing = [n for n, c in classes.items() if not (folder / n).is_file() and not (folder / c / n).is_file()]
    if missing:
        raise UserError(f"not found in {folder}: {first_of(missing, 1)}")
    for wnid in set(classes.values()):
        (folder / wnid).mkdir(exist_ok=True)
    here = [name for name in classes if (folder / name).is_file()]
    for name in here:
        os.replace(folder / name, folder / classes[name] / name)
    return len(here)


def by_image(pairs: LabelledImages, folder: Path) -> dict[str, str]:
    """Returns the class folder of each image name. Classes are checked against the folders of ``folder``/../train if
    it exists, and indices are replaced by names. Raises UserError for an unknown class, or an image with two
    classes."""
    train = folder.resolve().parent / "train"
    known = class_names(train) if train.is_dir() else ()
    numbered = all(label.isdecimal() and label not in known for _, label in pairs)
    if numbered:
        numbers = {int(label) for _, label in pairs}
        if not known:
            raise UserError(f"classes are given as numbers, but there is no {train}, whose folders they refer to")
        if min(numbers) != 0 or max(numbers) != len(known) - 1:
            raise UserError(
                f"classes are given as numbers from {min(numbers)} to {max(numbers)}, but {train} has {len(known)} "
                f"folders, 0 to {len(known) - 1}"
            )
    classes: dict[str, str] = {}
    for image, label in pairs:
        label = known[int(label)] if numbered else label
        for name in (image, label):
            try:
                check_plain_name(name)
            except ValueError:
                raise UserError(f"{name[:80]!r} cannot be the name of an image or a class") from None
        if known and label not in known:
            raise UserError(f"{image}: the class '{label}' has no folder in {train}")
        if classes.setdefault(image, label) != label:
            raise UserError(f"{image} has two classes, {classes[image]} and {label}")
    return classes


def from_text(file: Path, folder: Path) -> LabelledImages:
    """Returns the images and classes of Kaggle's table or of a text file. Kaggle repeats the class before each box:
    "ILSVRC2012_val_00048981,n03995372 85 1 499 272 "."""
    lines = [(number, line.replace(",", " ").split()) for number, line in enumerate(_lines(file), 1) if line.strip()]
    if not lines:
        raise UserError(f"{file} is empty")
    if all(len(words) == 1 for _, words in lines):
        return _in_order(file, [words[0] for _, words in lines], folder)
    pairs = []
    for number, words in lines if _looks_like_an_image(lines[0][1][0]) else lines[1:]:  # without the header
        classes = set(words[1::5])
        if len(classes) != 1:
            raise UserError(f"{file}, line {number}: expected an image and its class")
        pairs.append((_image(words[0]), classes.pop()))
    return pairs


def _in_order(file: Path, labels: list[str], folder: Path) -> LabelledImages:
    """Parses one class per line, in the order of the image names."""
    if all(label.isdecimal() for label in labels):
        raise UserError(
            f"{file} only contains numbers. If they are the development kit's ground truth, they are not labels: "
            "use --devkit"
        )
    inside = [*folder.glob("*"), *folder.glob("*/*")] if folder.is_dir() else []
    images = sorted(path.name for path in inside if _looks_like_an_image(path.name) and path.suffix)
    if len(images) != len(labels):
        raise UserError(f"{file} has {len(labels)} classes, but {folder} has {len(images)} images")
    return list(zip(images, labels, strict=True))


def _image(name: str) -> str:
    """Returns the file name of a path that may lack its extension."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last if last.lower().endswith(ENDINGS) else f"{last}.JPEG"


def _looks_like_an_image(name: str) -> bool:
    return not name.startswith(".") and (name.startswith("ILSVRC2012_val_") or name.lower().endswith(ENDINGS))


def from_devkit(folder: Path) -> LabelledImages:
    """Returns the images and classes from the development kit's labels and class table."""
    from scipy.io import loadmat  # executes nothing

    truth, table = folder / "data" / "ILSVRC2012_validation_ground_truth.txt", folder / "data" / "meta.mat"
    numbers = _lines(truth)
    try:
        synsets = loadmat(str(table), squeeze_me=True)["synsets"]
        wnids = {int(number): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)}
        return [(f"ILSVRC2012_val_{i:08d}.JPEG", wnids[int(number)]) for i, number in enumerate(numbers, 1)]
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise UserError(f"{table} cannot be read as the class table of the development kit: {error}") from None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None


if __name__ == "__main__":
    raise SystemExit(main())
