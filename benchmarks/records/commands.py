"""run_all.py --submit and --verify: what they are given, and what they print."""

import argparse
from typing import Any

from benchmarks.records.record import MANIFEST, VERDICT, read_manifest
from benchmarks.records.submission import DRAWN, submit
from benchmarks.records.verify import FALSE, HOLDS, verify
from sskd.config.execution import Execution
from sskd.config.validation import from_dict
from sskd.config.yaml import override
from sskd.errors import UserError

PREFIX = "execution."


def run_submit(options: argparse.Namespace) -> int:
    """A submission for each run folder, in <results>/submissions."""
    for run in options.submit:
        made = submit(run, options.results / "submissions", options.seed, _count(options))
        print(f"{made}: {sum(path.stat().st_size for path in made.rglob('*') if path.is_file()) / 2**20:.1f} MB")
        print(f"it commits its owner to {read_manifest(made).commitment}, the sha256 of its {MANIFEST}")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Exit status 0 where the record holds, 1 where it does not, 2 where that cannot be told here."""
    verdict = verify(options.verify, _execution(options), options.seed, _count(options))
    chosen = ", ".join(str(segment + 1) for segment in verdict["segments"]) or "none"
    how = f", compared {verdict['compared']}" if "compared" in verdict else ""
    print(
        f"the record of {verdict['submission']}: {verdict['outcome']}; epochs {chosen} of {verdict['of']} replayed{how}"
    )
    if "chance" in verdict:
        print(_chance_in_words(verdict["chance"]))
    print(f"drawn by {verdict['seed']} for the commitment {verdict['commitment']}; see {options.verify / VERDICT}")
    return {HOLDS: 0, FALSE: 1}.get(verdict["outcome"], 2)


def _count(options: argparse.Namespace) -> int:
    count = DRAWN if options.segments is None else int(options.segments)
    if count < 0:
        raise UserError(f"--segments {count} is less than none")
    return count


def _chance_in_words(chance: dict[str, Any]) -> str:
    drawn, others = chance["drawn"], chance["others"]
    if drawn == others:
        return "every epoch was replayed"
    more = ", ".join(f"--segments {count} for {percent} %" for percent, count in chance["segments_for"].items())
    return (
        f"of the {others} epochs that are not always replayed, {drawn} were drawn: on the record's kind of machine "
        f"one replaced state among them is found with a chance of {100 * chance['found']:.1f} %; {more}"
    )


def _execution(options: argparse.Namespace) -> Execution:
    """Where to replay: --dataset-root and --set execution.*; nothing else can be set, the submission has the rest."""
    strange = [setting for setting in options.set if not setting.startswith(PREFIX)]
    if strange:
        raise UserError(f"--verify takes everything from the submission: --set {strange[0]} cannot be given with it")
    given = override({}, [setting.removeprefix(PREFIX) for setting in options.set])
    root = {"dataset_root": options.dataset_root} if options.dataset_root else {}
    execution: Execution = from_dict(Execution, given | root, "options")
    return execution
