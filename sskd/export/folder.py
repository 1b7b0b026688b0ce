"""Exports a trained network to a folder: weights, config, model card and optionally ONNX, as the hub expects it.

model.safetensors    the weights of the run
config.json          network, classes, image size, mean and std of the weights
README.md            the model card; MODEL_CARD.md if a git clone has a README of its own
model.onnx           if requested
*.py                 the plugins that define the network or method, if they are the user's own
"""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import yaml

from sskd import __version__
from sskd.errors import UserError
from sskd.export.card import Card, write_card
from sskd.export.onnx import require_onnx, write_onnx
from sskd.runs.files import plain_os_errors, read_json, write_atomically, write_json
from sskd.runs.plugins import plugins_of
from sskd.runs.spec import RunSpec, read_spec
from sskd.runs.trained import CONFIG, EXPORT_FORMAT, WEIGHTS, load_exported, load_student

ONNX, CARD, OTHER_CARD = "model.onnx", "README.md", "MODEL_CARD.md"


def export_run(run: Path, to: Path, epoch: str = "last", licence: str = "unknown", onnx: bool = False) -> str:
    """Writes the network of a finished run (a student or a teacher) to the folder ``to`` and returns a one-line
    summary.

    ``to`` must be new or empty, an earlier export (which is overwritten), or a git clone of a hub repository. Raises
    UserError, before anything is written, if the run has no network to export, or if the folder has other files.

    Args:
        epoch: "last", or "best" on the test images.
        licence: its name on the hub.
        onnx: also export to ONNX, with a check.
    """
    run = Path(os.path.abspath(run))
    spec, result = _read(run)
    if onnx:
        require_onnx()
    network, info = load_student(run, "best" if epoch == "best" else "last")
    plugins = [plugin.path for plugin in plugins_of(spec)]
    _make_folder(to, {WEIGHTS, CONFIG, *(plugin.name for plugin in plugins)})
    card_file, known_licence = _card_file(to)
    weights = (run / f"{epoch}.safetensors").read_bytes()
    difference = write_onnx(network, info.image_size, to / ONNX) if onnx else None
    if not onnx:
        (to / ONNX).unlink(missing_ok=True)  # an earlier export may have other weights
    write_atomically(to / WEIGHTS, weights)
    about = {"format": EXPORT_FORMAT, "library_name": "sskd", "version": __version__, "run": spec.id, "epoch": epoch}
    write_json(to / CONFIG, about | info.model_dump(mode="json", exclude_none=True))
    for plugin in plugins:
        write_atomically(to / plugin.name, plugin.read_bytes())
    card = Card(
        to.resolve().name,
        spec,
        info,
        epoch,
        result,
        run.parent,
        known_licence if licence == "unknown" and known_licence else licence,
        tuple(plugin.name for plugin in plugins),
        difference,
    )
    write_atomically(card_file, write_card(card).encode())
    _check(to, network, info.image_size)
    more = f", ONNX within {difference:.1g} of torch" if difference is not None else ""
    more += f"; the model card is {OTHER_CARD}, because {CARD} is your own" if card_file.name != CARD else ""
    return f"{spec.id}: top-1 {result[epoch]['test_top1']:.2f} in the {epoch} epoch, written to {to}{more}"


def _read(run: Path) -> tuple[RunSpec, dict[str, Any]]:
    """Returns the spec and result of the run. Raises UserError if it is not a finished run with a trained network."""
    if not run.is_dir():
        raise UserError(f"there is no run folder {run}")
    if not (run / "spec.yaml").is_file():
        raise UserError(f"{run} is not a run folder: it has no spec.yaml (give results/PROFILE/runs/ID)")
    try:
        spec = read_spec(run / "spec.yaml")
    except UserError as error:
        raise UserError(f"{error}{_missing_plugins(run)}") from None
    if spec.role == "head":
        raise UserError(f"{spec.id} is a head, which is only used to train students: export a student")
    if not spec.trains:
        raise UserError(f"{spec.id} has trained nothing: its weights are given")
    if not (run / "result.json").is_file():
        raise UserError(
            f"{spec.id} is not finished: it has no result.json; run the command that started it again to resume it"
        )
    result = read_json(run / "result.json")
    if not isinstance(result, dict) or not {"best", "last", "parameters", "train_images"} <= result.keys():
        raise UserError(f"{run / 'result.json'} is not the result of a run: delete it to rerun the run")
    return spec, result


def _missing_plugins(run: Path) -> str:
    """Returns which plugins the run has recorded, as the end of an error message; they are not executed."""
    try:
        paths = [str(plugin["path"]) for plugin in read_json(run / "result.json")["machine"]["plugins"]]
    except (UserError, KeyError, TypeError):  # not finished or damaged
        return ""
    return "".join(f"; it was trained with the plugin {path}: give it with --plugin" for path in paths)


def _make_folder(to: Path, names: Collection[str]) -> None:
    """Creates the folder. An existing folder must be empty, an earlier export, or a git clone without other files
    called ``names``. Raises UserError otherwise."""
    if os.path.lexists(to) and not to.is_dir():
        raise UserError(f"{to} is not a folder: give another one with --to")
    with plain_os_errors("write", to):
        there = {path.name for path in to.iterdir()} if to.is_dir() else set()
        if there and not _is_export(to):
            if ".git" not in there:
                raise UserError(f"{to} has files that are not an earlier export: give a new or empty folder with --to")
            if others := sorted(there & {*names, ONNX}):
                raise UserError(
                    f"{to} is a git clone with a {others[0]} that is not from an earlier export: "
                    "remove it, or give another folder with --to"
                )
        to.mkdir(parents=True, exist_ok=True)


def _is_export(folder: Path) -> bool:
    try:
        return bool(read_json(folder / CONFIG).get("library_name") == "sskd")
    except (UserError, AttributeError):
        return False


def _card_file(to: Path) -> tuple[Path, str]:
    """Returns the path of the card, and the licence that an existing README.md names. The path is README.md, unless
    the user has written one; the README.md of a new hub repository only has front matter."""
    try:
        text = (to / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        return to / CARD, ""
    except (OSError, UnicodeDecodeError):
        return to / OTHER_CARD, ""
    found = re.fullmatch(r"\s*---\n(.*?)\n?---\s*(.*)", text, re.DOTALL)
    try:
        front, rest = (yaml.safe_load(found[1]), found[2]) if found else (None, text)
    except yaml.YAMLError:
        front, rest = None, text
    front = front if isinstance(front, dict) else {}
    if front.get("library_name") == "sskd" or not rest.strip():
        return to / CARD, str(front.get("license") or "")
    return to / OTHER_CARD, ""


def _check(to: Path, network: torch.nn.Module, image_size: int) -> None:
    """Checks that the exported network computes the same numbers."""
    loaded, _ = load_exported(to)
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if not torch.equal(loaded(images), network(images)):
            raise UserError(f"{to}: the exported network computes other numbers; this is a bug in sskd")
