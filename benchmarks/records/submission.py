"""A submission: a finished run in a form that others can verify. Safetensors, JSON and YAML; nothing in it is executed.

    submission.json      the owner's commitment: sha256 of the files, and the hash of the state after every epoch
    spec.yaml, result.json, metrics.jsonl, network.json, best.safetensors, last.safetensors   as in the run's folder
    epochs/NNNN.safetensors   states after epochs: all if they are small, else the requested ones
    needs/<id>/          weights of the teacher or head that the run learned from
    verdict.json         outcome of a verification (benchmarks/records/verify.py)

Its hash (``commitment``) is that of submission.json, so it does not change when more states are opened.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.records.plain import entries_below, plain_sha256
from benchmarks.records.record import (
    FILES,
    MANIFEST,
    VERDICT,
    Manifest,
    needed_weights,
    numbers_of,
    read_manifest,
    refuse_what_cannot_be_replayed,
    state_name,
)
from sskd.errors import UserError
from sskd.networks.weights import file_sha256
from sskd.runs.epoch_state import State, read_state, state_hash
from sskd.runs.files import plain_os_errors, read_json, write_json
from sskd.runs.records import SCHEMA
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import read_spec

SMALL = 100 * 2**20  # maximum bytes of states that are included without a request
DRAWN = 3  # segments drawn by a seed
LAST = 3  # segments at the end that are always replayed


class Segments(NamedTuple):
    """The epochs to replay: segment k, from 0, goes from the state after k epochs to the next."""

    always: list[int]
    """The first and last segments, and those that end with the best and the chosen epoch, which determine the
    accuracy."""
    drawn: list[int]
    """Segments that were drawn at random from those that are not always replayed."""
    others: int
    """Number of segments that are not always replayed."""

    @property
    def all(self) -> list[int]:
        """Returns all segments to replay, in order."""
        return sorted({*self.always, *self.drawn})

    @property
    def states(self) -> set[int]:
        """Returns the numbers of epochs after which states are needed."""
        return {number for segment in self.all for number in (segment, segment + 1) if number}


def segments_of(
    commitment: str, seed: int, rows: list[dict[str, Any]], result: dict[str, Any], count: int = DRAWN
) -> Segments:
    """Returns the segments to replay. ``seed`` draws ``count`` of those that are not always replayed, by the sha256 of
    commitment, seed and segment."""

    def rank(segment: int) -> str:
        return hashlib.sha256(f"{commitment}:{seed}:{segment}".encode()).hexdigest()

    segments = range(len(rows))
    always = {0, *segments[-LAST:], *(number - 1 for number in numbers_of(rows, result).values())}
    others = [segment for segment in segments if segment not in always]
    return Segments(sorted(always & {*segments}), sorted(sorted(others, key=rank)[:count]), len(others))


def submit(run: Path, target: Path, seed: int | None = None, count: int = DRAWN) -> Path:
    """Writes the submission of a finished run into ``target``/<id>, or adds states to an existing one.

    Small states are all included; otherwise those that are always replayed, and those that ``seed`` (given by the
    verifier) draws. Raises UserError if the run is not finished, did not keep its states, cannot be replayed, or
    differs from the submitted one.
    """
    folder = RunFolder(run.parent, read_spec(run / "spec.yaml"))
    if folder.path.name != run.name:
        raise UserError(f"{run} has the spec of {folder.spec.id}: rename the folder")
    if not folder.is_finished():
        raise UserError(f"{run} has no result.json: only a finished run can be submitted")
    result, rows = dict(read_json(folder.result)), folder.read_metrics()
    refuse_what_cannot_be_replayed(folder.spec, result)
    paths = [folder.epoch_state(number) for number in range(1, len(rows) + 1)]
    absent = [path for path in paths if not path.exists()]
    if absent or not paths:
        raise UserError(
            f"{run} has no {absent[0] if absent else 'states'}: train it with --set execution.keep_epochs=true "
            f"(--rerun {folder.spec.id} trains it again)"
        )
    out = target / folder.spec.id
    with plain_os_errors("write", out):
        (out / "epochs").mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if (run / name).exists():
                shutil.copyfile(run / name, out / name)
        _copy_needs(folder, out / "needs")
        states = {path.name: state_hash(read_state(path)) for path in paths}
        files = {name: file_sha256(out / name) for name in _own_files(out)}
        manifest = Manifest(version=SCHEMA, run=folder.spec.id, files=files, states=states)
        earlier = read_manifest(out) if (out / MANIFEST).exists() else manifest
        if earlier.commitment != manifest.commitment:
            raise UserError(f"{out} is a submission of another result of this run: move it away first")
        write_json(out / MANIFEST, manifest.model_dump(mode="json"))
        opened = set(range(1, len(paths) + 1))
        if sum(path.stat().st_size for path in paths) > SMALL:
            opened = segments_of(manifest.commitment, seed or 0, rows, result, 0 if seed is None else count).states
        for number in opened:
            shutil.copyfile(paths[number - 1], out / "epochs" / paths[number - 1].name)
    return out


def _copy_needs(folder: RunFolder, target: Path) -> None:
    for spec, epoch in needed_weights(folder.spec):
        needed = RunFolder(folder.path.parent, spec)
        if not needed.weights(epoch).exists():
            raise UserError(f"{folder.spec.id} needs {spec.id}, whose weights are not in {needed.path}")
        (target / spec.id).mkdir(parents=True, exist_ok=True)
        for path in (needed.path / "spec.yaml", needed.result, needed.weights(epoch)):
            shutil.copyfile(path, target / spec.id / path.name)


def _own_files(folder: Path) -> list[str]:
    """Returns all files of a submission except manifest, verdict and states, in order."""
    names = [name for name, kind in entries_below(folder).items() if kind == "file"]
    return [name for name in names if name not in (MANIFEST, VERDICT) and not name.startswith("epochs/")]


def wrong_files(folder: Path, manifest: Manifest) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Returns the metadata of the opened states by number, and descriptions of all deviations from the commitment:
    missing, additional or changed files."""
    found = entries_below(folder)
    folders = {"epochs", "needs"} | {name.rpartition("/")[0] for name in manifest.files if "/" in name}
    states = {f"epochs/{name}": number for number, name in enumerate(manifest.states, start=1)}
    wrong = [f"{name} is missing" for name in manifest.files if name not in found]
    opened: dict[int, dict[str, Any]] = {}
    for name, kind in found.items():
        wanted = "folder" if name in folders else "file"
        if name not in {*folders, *manifest.files, *states, MANIFEST, VERDICT}:
            wrong.append(f"{name} is not listed")
        elif kind != wanted:
            wrong.append(f"{name} is a {kind}, expected a plain {wanted}")
        elif name in states:
            try:
                state = committed_state(folder, manifest, states[name])
            except UserError as error:
                wrong.append(str(error))
            else:
                said = {key: state.get(key) for key in ("run", "stage", "epoch", "step")}
                opened[states[name]] = said | {"on_gpu": state.get("random_cuda") is not None}
        elif name in manifest.files and plain_sha256(folder / name) != manifest.files[name]:
            wrong.append(f"{name} is not the committed file")
    return opened, wrong


def committed_state(folder: Path, manifest: Manifest, number: int) -> State:
    """Returns the opened state after ``number`` epochs. Raises UserError if it is missing or differs from the
    commitment."""
    name, problem = state_name(number), ""
    try:
        state = read_state(folder / "epochs" / name)
        if state_hash(state) == manifest.states[name]:
            return state
    except UserError as error:
        problem = f": {error}"
    raise UserError(f"epochs/{name} is not the committed state{problem}")
