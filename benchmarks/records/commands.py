"""run_all.py --submit and --verify: what they are given, and what they print."""

import argparse

from benchmarks.records.submission import submit
from benchmarks.records.verify import FALSE, HOLDS, verify
from sskd.config.execution import Execution
from sskd.config.validation import from_dict
from sskd.config.yaml import override
from sskd.errors import UserError

PREFIX = "execution."


def run_submit(options: argparse.Namespace) -> int:
    """A submission for each run folder, in <results>/submissions."""
    for run in options.submit:
        made = submit(run, options.results / "submissions", options.seed)
        print(f"{made}: {sum(path.stat().st_size for path in made.rglob('*') if path.is_file()) / 2**20:.1f} MB")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Exit status 0 where the record holds, 1 where it does not, 2 where that cannot be told here."""
    verdict = verify(options.verify, _execution(options), options.seed)
    chosen = ", ".join(str(segment + 1) for segment in verdict["segments"])
    how = f", compared {verdict['compared']}" if "compared" in verdict else ""
    print(
        f"the record of {verdict['submission']}: {verdict['outcome']}; epochs {chosen} of {verdict['of']} replayed{how}"
    )
    print(f"drawn by {verdict['seed']}; written to {options.verify / 'verdict.json'}, sha256 {verdict['sha256']}")
    return {HOLDS: 0, FALSE: 1}.get(verdict["outcome"], 2)


def _execution(options: argparse.Namespace) -> Execution:
    """Where to replay: --dataset-root and --set execution.*; nothing else can be set, the submission has the rest."""
    strange = [setting for setting in options.set if not setting.startswith(PREFIX)]
    if strange:
        raise UserError(f"--verify takes everything from the submission: --set {strange[0]} cannot be given with it")
    given = override({}, [setting.removeprefix(PREFIX) for setting in options.set])
    root = {"dataset_root": options.dataset_root} if options.dataset_root else {}
    execution: Execution = from_dict(Execution, given | root, "options")
    return execution
