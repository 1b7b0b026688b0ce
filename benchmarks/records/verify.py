"""Checks a submission by replay: segments of the training that a number draws are trained again, and compared.

What is checked, and what a verdict is worth: docs/verify.md.
"""

import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.records.comparing import compare, differing, kind_of, must_be_equal
from benchmarks.records.submission import (
    VERDICT,
    Manifest,
    drawn,
    needed_weights,
    read_manifest,
    with_weights_from,
    wrong_files,
)
from sskd.config.execution import Execution
from sskd.config.validation import from_dict
from sskd.device import device_of, resolve_precision, with_threads
from sskd.errors import UserError
from sskd.runs.epoch_state import State, read_state, state_hash
from sskd.runs.files import read_json, write_json
from sskd.runs.provenance import provenance
from sskd.runs.records import SCHEMA
from sskd.runs.spec import RunSpec, read_spec
from sskd.training.replay import Replayed, replay_epoch
from sskd.training.setup import prepare
from sskd.training.stage import TrainingTask
from sskd.training.tasks import build_task

HOLDS, FALSE, UNDECIDED = "holds", "does not hold", "undecided"  # outcomes
Say = Callable[[str], None]


class Submission(NamedTuple):
    """A submission, read."""

    folder: Path
    manifest: Manifest
    spec: RunSpec
    rows: list[dict[str, Any]]
    result: dict[str, Any]

    def state(self, epochs: int) -> State:
        """The opened state after so many epochs. UserError where it is not there, or not what was committed to."""
        name = f"{epochs:04d}.safetensors"
        state = read_state(self.folder / "epochs" / name)
        if state_hash(state) != self.manifest.states.get(name):
            raise UserError(f"epochs/{name} is not the state that was committed to")
        return state


def verify(
    folder: Path, execution: Execution, seed: int | None = None, count: int = 3, say: Say = print
) -> dict[str, Any]:
    """Checks a submission and returns the verdict, which is also written into it (verdict.json).

    seed: the number that draws the segments, ``count`` of them besides the first and the last; a new one where there is
    none. UserError where nothing can be said: no submission, no data, or a state that has yet to be asked for.
    """
    manifest = read_manifest(folder)
    seed = secrets.randbelow(2**32) if seed is None else seed
    segments = drawn(manifest.commitment, seed, max(manifest.epochs, 1), count)
    _refuse_closed(folder, manifest, segments, seed)
    checks: list[dict[str, Any]] = []

    def note(name: str, problems: list[str], **more: Any) -> bool:
        checks.append({"check": name, "passed": not problems, "problems": problems, **more})
        say(f"{name}: {'; '.join(problems) or 'passed'}")
        return not problems

    mode: dict[str, Any] = {}
    if note("files are what was committed to", wrong_files(folder, manifest)):
        found, problems = _read(folder, manifest, execution)
        if note("the record agrees with itself", problems) and found is not None:
            mode = _by_computing(found, execution, segments, note)
    verdict = {
        "schema": SCHEMA,
        "submission": manifest.run,
        "commitment": manifest.commitment,
        "seed": seed,
        "segments": segments,
        "of": manifest.epochs,
        "outcome": _outcome(checks) if mode else FALSE,
        **mode,
        "checks": checks,
        "machine": provenance(device_of(execution)),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    verdict["sha256"] = verdict_sha256(verdict)
    write_json(folder / VERDICT, verdict)
    return verdict


def _outcome(checks: list[dict[str, Any]]) -> str:
    """A replay that came to other bits on another kind of machine speaks neither for the record nor against it."""
    if not all(check["passed"] for check in checks):
        return FALSE
    return HOLDS if all(check.get("equal", True) for check in checks) else UNDECIDED


def verdict_sha256(verdict: dict[str, Any]) -> str:
    """The hash that a verdict is signed by: of all of it but the hash. It binds the findings to the submission."""
    rest = {key: value for key, value in verdict.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _refuse_closed(folder: Path, manifest: Manifest, segments: list[int], seed: int) -> None:
    """UserError where states that are drawn are not in the submission: the next step is its owner's."""
    wanted = {number for segment in segments for number in (segment, segment + 1) if number}
    closed = [number for number in sorted(wanted) if not (folder / f"epochs/{number:04d}.safetensors").exists()]
    if closed and manifest.epochs:
        raise UserError(
            f"{folder} has no states after epochs {', '.join(map(str, closed))}, which {seed} draws: have its owner "
            f"open them with --submit RUN --seed {seed}, then verify with --seed {seed}"
        )


def _read(folder: Path, manifest: Manifest, execution: Execution) -> tuple[Submission | None, list[str]]:
    """The submission, and what its parts say against each other."""
    try:
        spec = with_weights_from(read_spec(folder / "spec.yaml"), Path(execution.dataset_root))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        result = dict(read_json(folder / "result.json"))
        found = Submission(folder, manifest, spec, rows, result)
        return found, _contradictions(found)
    except (UserError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return None, [f"it cannot be read: {' '.join(str(error).split())[:200]}"]


def _contradictions(found: Submission) -> list[str]:
    spec, rows, result = found.spec, found.rows, found.result
    wrong = []
    if not spec.id == found.manifest.run == result.get("id"):
        wrong.append(f"the spec is {spec.id}, the submission {found.manifest.run}, the result {result.get('id')}")
    if found.manifest.epochs != len(rows) or list(found.manifest.states) != sorted(found.manifest.states):
        wrong.append(f"{len(rows)} epochs are in metrics.jsonl, and {found.manifest.epochs} states are committed to")
    main = [row for row in rows if row["stage"] == "main"]
    if [row["epoch"] for row in main] != list(range(1, spec.recipe.epochs + 1)):
        wrong.append(f"the epochs of metrics.jsonl are not 1 to {spec.recipe.epochs}")
    if not main:
        return wrong
    score = "test_top1"
    best = max(main, key=lambda row: row[score]) if score in main[-1] else main[-1]
    for which, row in (("best", best), ("last", main[-1])):
        wrong += [f"result.json's {which}: {text}" for text in differing(result[which], _measured(row), exact=True)]
    return wrong


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key.startswith("test_") or key == "epoch"}


def _by_computing(
    found: Submission, execution: Execution, segments: list[int], note: Callable[..., bool]
) -> dict[str, Any]:
    """Evaluates the weights and replays the segments. Returns how was compared."""
    spec, last = found.spec, found.manifest.epochs
    execution = _as_theirs(execution, found.result)
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        _copy_needs(found, scratch / "needs")
        task = build_task(prepare(spec, scratch / "needs", execution))
        begin = {key: value.detach().cpu().clone() for key, value in task.modules.state_dict().items()}
        exact = _exact(found, execution)
        try:
            note("the last weights are those of the last state", _not_of_the_state(found, task))
        except UserError as error:
            note("the last weights are those of the last state", [str(error)])
        for which in ("best", "last"):
            note(f"accuracy of the {which} weights", _evaluated(found, task, which, exact))
        for segment in segments:
            name = f"epoch {segment} to {segment + 1}"
            runs = scratch / f"segment-{segment}"
            shutil.copytree(scratch / "needs", runs)
            try:
                start = found.state(segment) if segment else None
                replayed = replay_epoch(spec, runs, execution, found.rows[:segment], start)
                before = start["modules"] if start else begin
                compared = compare(
                    found.manifest.states[f"{segment + 1:04d}.safetensors"],
                    found.state(segment + 1),
                    replayed.state,
                    before,
                    exact,
                )
            except (UserError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                note(name, [f"cannot be replayed: {' '.join(str(error).split())[:200]}"])
                continue
            problems = [compared.problem] if compared.problem else []
            if exact or compared.equal:
                problems += _numbers(found, replayed, segment, last)
            note(name, problems, equal=compared.equal, distance=compared.distance)
    return {"compared": "bit for bit" if exact else "on another kind of machine, or not in fp32"}


def _as_theirs(execution: Execution, result: dict[str, Any]) -> Execution:
    """With the settings that round otherwise as the run had them, where that is recorded."""
    machine, how = result.get("machine", {}), result.get("measured_with", {}).get("execution") or {}
    known = {key: how[key] for key in ("channels_last", "fold_teacher", "compile") if key in how}
    changed: Execution = from_dict(Execution, execution.model_dump() | known, "result.json's measured_with.execution")
    return with_threads(changed, int(machine.get("threads") or 1)) if execution.threads is None else changed


def _exact(found: Submission, execution: Execution) -> bool:
    """Whether this machine must give the same bits as the one that the run was done on."""
    device = device_of(execution)
    how = {key: getattr(execution, key) for key in ("channels_last", "fold_teacher", "compile")}
    here = {
        "machine": provenance(device) | {"threads": execution.threads},
        "measured_with": {"execution": how},
        "precision": resolve_precision(found.spec.recipe.precision, device),
    }
    return must_be_equal(kind_of(found.result), kind_of(here), device.type == "cpu")


def _copy_needs(found: Submission, runs: Path) -> None:
    runs.mkdir()
    for spec, epoch in needed_weights(found.spec):
        source = found.folder / "needs" / spec.id
        if not (source / f"{epoch}.safetensors").exists():
            raise UserError(f"{found.folder} lacks the weights of {spec.id}, from which the run learned")
        shutil.copytree(source, runs / spec.id)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _not_of_the_state(found: Submission, task: TrainingTask) -> list[str]:
    """What speaks against last.safetensors being what the last state has."""
    state, weights = found.state(found.manifest.epochs), _load(found.folder / "last.safetensors")
    try:
        task.modules.load_state_dict(state["modules"])
    except (KeyError, TypeError, RuntimeError) as error:
        return [f"the last state is none of this run: {' '.join(str(error).split())[:150]}"]
    own = {key: value.cpu() for key, value in task.output.state_dict().items()}
    if own.keys() != weights.keys():
        return ["last.safetensors has other tensors"]
    other = [key for key in own if not own[key].equal(weights[key])]
    return (
        [f"{other[0]} and {len(other) - 1} other tensors of last.safetensors are not those of the state"]
        if other
        else []
    )


def _evaluated(found: Submission, task: TrainingTask, which: str, exact: bool) -> list[str]:
    """What the weights give on the test images, against what result.json says of them."""
    try:
        task.output.load_state_dict(_load(found.folder / f"{which}.safetensors"))
    except (UserError, RuntimeError) as error:
        return [f"they cannot be loaded: {' '.join(str(error).split())[:150]}"]
    measured = {f"test_{name}": value for name, value in task.evaluate().items()}
    return differing(found.result[which], measured, exact)


def _numbers(found: Submission, replayed: Replayed, segment: int, last: int) -> list[str]:
    """The epoch's row, and after the last epoch the result's own numbers."""
    wrong = differing(found.rows[segment], replayed.row, exact=True)
    if segment + 1 == last and replayed.result is not None:
        wrong += differing(found.result, {k: v for k, v in replayed.result.items() if k != "finished"}, exact=True)
    return wrong
