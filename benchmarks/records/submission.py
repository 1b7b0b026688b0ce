"""A submission: a finished run as others can check it. Safetensors, JSON and YAML; nothing in it is executed.

submission.json      what the run's owner commits to: sha256 of the files, and the hash of the state after every epoch
spec.yaml, result.json, metrics.jsonl, network.json, best.safetensors, last.safetensors   as in the run's folder
epochs/NNNN.safetensors   states after epochs: all of them, or where they are large, those that were asked for
needs/<id>/          the teacher's or head's weights that the run learned from
verdict.json         what a verifier found (benchmarks/records/verify.py)

Its hash (``commitment``) is of submission.json, so it stays as it is when more states are opened.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from sskd.config.fields import StrictModel
from sskd.config.validation import from_dict
from sskd.errors import UserError
from sskd.networks.weights import file_sha256
from sskd.runs.epoch_state import read_state, state_hash
from sskd.runs.files import plain_os_errors, read_json, write_json
from sskd.runs.records import SCHEMA
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, StudentSpec, Trained, parse_spec, read_spec

MANIFEST = "submission.json"
VERDICT = "verdict.json"
FILES = ("spec.yaml", "result.json", "metrics.jsonl", "network.json", "best.safetensors", "last.safetensors")
SMALL = 100 * 2**20  # bytes of states that go into a submission without being asked for


class Manifest(StrictModel):
    """submission.json."""

    version: int
    """Of this format."""
    run: str
    """The run's id."""
    files: dict[str, str]
    """sha256 by path, of all files but the states."""
    states: dict[str, str]
    """Hash of the state after every epoch (sskd/runs/epoch_state.py), by the file's name."""

    @property
    def commitment(self) -> str:
        """The submission's hash: of all that its owner cannot change any more."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def epochs(self) -> int:
        """How many states are committed to."""
        return len(self.states)


def drawn(commitment: str, seed: int, segments: int, count: int) -> list[int]:
    """Which segments a number chooses, from 0 (segment k: from the state after k epochs to the next): the first and the
    last, on which the accuracy rests, and ``count`` of the others, by the sha256 of commitment, number and segment."""

    def rank(segment: int) -> str:
        return hashlib.sha256(f"{commitment}:{seed}:{segment}".encode()).hexdigest()

    others = sorted(range(1, segments - 1), key=rank)[:count]
    return sorted({0, segments - 1, *others})


def submit(run: Path, target: Path, seed: int | None = None, count: int = 3) -> Path:
    """Makes the submission of a finished run's folder, in ``target``/<id>, or adds to one that is there. Its states
    are all opened where they are small; else those that ``seed``, the verifier's number, draws. UserError where the run
    is not finished, did not keep its states, or is another than the one that was submitted."""
    folder = RunFolder(run.parent, read_spec(run / "spec.yaml"))
    if folder.path.name != run.name:
        raise UserError(f"{run} is not named after its spec, which is {folder.spec.id}")
    if not folder.result.exists():
        raise UserError(f"{run} has no result.json: only a finished run can be submitted")
    rows = folder.read_metrics()
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
        for number in _opened(manifest, paths, seed, count):
            shutil.copyfile(paths[number - 1], out / "epochs" / paths[number - 1].name)
    return out


def _opened(manifest: Manifest, paths: list[Path], seed: int | None, count: int) -> set[int]:
    """The epochs, from 1, whose states go into the submission: the last always."""
    last = len(paths)
    if sum(path.stat().st_size for path in paths) <= SMALL:
        return set(range(1, last + 1))
    if seed is None:
        return {last}
    segments = drawn(manifest.commitment, seed, last, count)
    return {last} | {number for segment in segments for number in (segment, segment + 1) if number}


def needed_weights(spec: RunSpec) -> list[tuple[RunSpec, str]]:
    """The runs whose weights a run learns from, each with the epoch that it takes."""
    found: list[tuple[RunSpec, str]] = []
    if isinstance(spec.teacher, Trained):
        found.append((spec.teacher.run, spec.teacher.epoch))
    if isinstance(spec, StudentSpec) and spec.head is not None:
        found.append((spec.head, "last"))
    return found


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
    paths = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [name for name in names if name not in (MANIFEST, VERDICT) and not name.startswith("epochs/")]


def read_manifest(folder: Path) -> Manifest:
    """UserError where there is none, or it is of a newer version."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is no submission: there is no {MANIFEST} in it (run_all.py --submit makes one)")
    manifest: Manifest = from_dict(Manifest, read_json(folder / MANIFEST), str(folder / MANIFEST))
    if manifest.version > SCHEMA:
        raise UserError(f"{folder} is of version {manifest.version} of the format; this suite reads up to {SCHEMA}")
    return manifest


def wrong_files(folder: Path, manifest: Manifest) -> list[str]:
    """What differs between a submission's files and what it commits to, in words."""
    found = set(_own_files(folder))
    wrong = [f"{name} is not listed" for name in sorted(found - manifest.files.keys())]
    wrong += [f"{name} is missing" for name in sorted(manifest.files.keys() - found)]
    for name in sorted(found & manifest.files.keys()):
        path = folder / name
        if path.is_symlink() or path.suffix not in (".json", ".jsonl", ".yaml", ".safetensors"):
            wrong.append(f"{name} is no plain file of safetensors, JSON or YAML")
        elif file_sha256(path) != manifest.files[name]:
            wrong.append(f"{name} is not the file that was committed to")
    return wrong + [
        f"epochs/{path.name} is not listed"
        for path in sorted((folder / "epochs").glob("*"))
        if path.name not in manifest.states
    ]


def with_weights_from(spec: RunSpec, root: Path) -> RunSpec:
    """The spec, where it names weights files by a path that is not here, with those of the same name in ``root``. The
    id does not follow the path of a file whose sha256 is given."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            value = {key: moved(item) for key, item in value.items()}
            if value.get("sha256") and not Path(str(value.get("weights"))).exists():
                value["weights"] = str(root / Path(str(value["weights"])).name)
        return value

    return parse_spec(moved(spec.model_dump(mode="json", exclude_none=True)), spec.id)
