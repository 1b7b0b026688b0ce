"""A submission: a finished run as others can check it. Safetensors, JSON and YAML; nothing in it is executed.

submission.json      what the run's owner commits to: sha256 of the files, and the hash of the state after every epoch
spec.yaml, result.json, metrics.jsonl, network.json, best.safetensors, last.safetensors   as in the run's folder
epochs/NNNN.safetensors   states after epochs: all of them, or where they are large, those that were asked for
needs/<id>/          the teacher's or head's weights that the run learned from
verdict.json         what a verifier found (benchmarks/records/verify.py)

Its hash (``commitment``) is of submission.json, so it stays as it is when more states are opened.
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

SMALL = 100 * 2**20  # bytes of states that go into a submission without being asked for
DRAWN = 3  # segments that a number draws
LAST = 3  # segments at the end that are always replayed


class Segments(NamedTuple):
    """Which epochs are replayed: segment k, from 0, is from the state after k epochs to the next."""

    always: list[int]
    """The first, the last ones, and those that end with the best and the chosen epoch: the accuracy rests on them."""
    drawn: list[int]
    """Those of the others that a number draws."""
    others: int
    """How many others there are."""

    @property
    def all(self) -> list[int]:
        """All that are replayed, in order."""
        return sorted({*self.always, *self.drawn})

    @property
    def states(self) -> set[int]:
        """After how many epochs the states are that their replay needs."""
        return {number for segment in self.all for number in (segment, segment + 1) if number}


def segments_of(
    commitment: str, seed: int, rows: list[dict[str, Any]], result: dict[str, Any], count: int = DRAWN
) -> Segments:
    """The segments of a run with these metrics and this result that are replayed; ``seed`` draws ``count`` of those
    that are not replayed always, by the sha256 of commitment, number and segment."""

    def rank(segment: int) -> str:
        return hashlib.sha256(f"{commitment}:{seed}:{segment}".encode()).hexdigest()

    segments = range(len(rows))
    always = {0, *segments[-LAST:], *(number - 1 for number in numbers_of(rows, result).values())}
    others = [segment for segment in segments if segment not in always]
    return Segments(sorted(always & {*segments}), sorted(sorted(others, key=rank)[:count]), len(others))


def submit(run: Path, target: Path, seed: int | None = None, count: int = DRAWN) -> Path:
    """Makes the submission of a finished run's folder, in ``target``/<id>, or adds to one that is there. Its states
    are all opened where they are small; else those that are replayed always, and those that ``seed``, the verifier's
    number, draws. UserError where the run is not finished, did not keep its states, cannot be replayed, or is another
    than the one that was submitted."""
    folder = RunFolder(run.parent, read_spec(run / "spec.yaml"))
    if folder.path.name != run.name:
        raise UserError(f"{run} is not named after its spec, which is {folder.spec.id}")
    if not folder.is_finished():
        raise UserError(f"{run} has no result.json: only a finished run can be submitted")
    result, rows = dict(read_json(folder.result)), folder.read_metrics()
    refuse_what_cannot_be_replayed(folder.spec, result)
    paths = [folder.epoch_state(number) for number in range(1, len(rows) + 1)]
    absent = [path for path in paths if not path.exists()]
    if absent or not paths:
        raise UserError(
            f"{run} has no {absent[0] if absent else 'states'}: train it with --set execution.keep_epochs=true "
            f"(--rerun {folder.spec.id} trains it anew)"
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
            raise UserError(f"{out} is the submission of another record of this run: move it away first")
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
            raise UserError(f"{folder.spec.id} learned from {spec.id}, whose weights are not in {needed.path}")
        (target / spec.id).mkdir(parents=True, exist_ok=True)
        for path in (needed.path / "spec.yaml", needed.result, needed.weights(epoch)):
            shutil.copyfile(path, target / spec.id / path.name)


def _own_files(folder: Path) -> list[str]:
    """All files of a submission but manifest, verdict and states, in order."""
    names = [name for name, kind in entries_below(folder).items() if kind == "file"]
    return [name for name in names if name not in (MANIFEST, VERDICT) and not name.startswith("epochs/")]


def wrong_files(folder: Path, manifest: Manifest) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Returns what the opened states, by their numbers, say of themselves, and in words all in which the folder is not
    what was committed to: it holds the listed files and such states as are opened, with their hashes, and nothing
    else."""
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
            wrong.append(f"{name} is a {kind}, and no plain {wanted}")
        elif name in states:
            try:
                state = committed_state(folder, manifest, states[name])
            except UserError as error:
                wrong.append(str(error))
            else:
                said = {key: state.get(key) for key in ("run", "stage", "epoch", "step")}
                opened[states[name]] = said | {"on_gpu": state.get("random_cuda") is not None}
        elif name in manifest.files and plain_sha256(folder / name) != manifest.files[name]:
            wrong.append(f"{name} is not the file that was committed to")
    return opened, wrong


def committed_state(folder: Path, manifest: Manifest, number: int) -> State:
    """Returns the opened state after so many epochs. UserError where it is not there, or not what was committed to."""
    name, problem = state_name(number), ""
    try:
        state = read_state(folder / "epochs" / name)
        if state_hash(state) == manifest.states[name]:
            return state
    except UserError as error:
        problem = f": {error}"
    raise UserError(f"epochs/{name} is not the state that was committed to{problem}")
