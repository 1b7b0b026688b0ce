"""Ways to change a folder: in place of a file, in its text, in its result."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sskd.networks.weights import file_sha256
from sskd.runs.files import write_json

Change = Callable[[Path], object]


def in_place_of(name: str, make: Change) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        make(path)

    return change


def in_result(**changes: Any) -> Change:
    """Changes values of result.json; a__b is b inside a."""

    def change(folder: Path) -> None:
        result = json.loads((folder / "result.json").read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = result
            for parent in parents:
                place = place[parent]
            place[last] = value
        (folder / "result.json").write_text(json.dumps(result))

    return change


def in_text(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def committed_anew(made: Path) -> None:
    """The owner commits to whatever the files are now."""
    manifest = json.loads((made / "submission.json").read_text())
    manifest["files"] = {name: file_sha256(made / name) for name in manifest["files"]}
    write_json(made / "submission.json", manifest)
