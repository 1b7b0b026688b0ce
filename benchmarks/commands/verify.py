"""``run_all.py verify``: checks a submission by replaying parts of its training."""

import argparse
from typing import Any

from benchmarks.commands.request import Outcome, add_paths, add_plugins, add_settings, load_plugins
from benchmarks.commands.submit import add_segments, segments_asked
from sskd.arguments import file_path
from sskd.config.execution import Execution
from sskd.errors import UserError

PREFIX = "execution."
EXAMPLE = "verify results/submissions/NAME --dataset-root DIR"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("submission", type=file_path, metavar="SUBMISSION", help="folder of the submission")
    parser.add_argument("--seed", type=int, metavar="N", help="random seed that selects the epochs to replay")
    add_segments(parser)
    add_settings(parser)
    add_plugins(parser)
    add_paths(parser)


def act(options: argparse.Namespace) -> Outcome:
    """Verifies a submission. Exit status: 0 the record holds, 1 it does not hold, 2 undecided on this machine."""
    from benchmarks.records.record import VERDICT
    from benchmarks.records.verify import FALSE, HOLDS, verify

    load_plugins(options)
    verdict = verify(options.submission, _execution(options), options.seed, segments_asked(options))
    chosen = ", ".join(str(segment + 1) for segment in verdict["segments"]) or "none"
    how = f", compared {verdict['compared']}" if "compared" in verdict else ""
    print(
        f"the record of {verdict['submission']}: {verdict['outcome']}; epochs {chosen} of {verdict['of']} replayed{how}"
    )
    if "chance" in verdict:
        print(_chance_in_words(verdict["chance"]))
    print(f"drawn by {verdict['seed']} for the commitment {verdict['commitment']}; see {options.submission / VERDICT}")
    return Outcome({HOLDS: 0, FALSE: 1}.get(verdict["outcome"], 2))


def _chance_in_words(chance: dict[str, Any]) -> str:
    drawn, others = chance["drawn"], chance["others"]
    if drawn == others:
        return "every epoch was replayed"
    more = ", ".join(f"--segments {count} for {percent} %" for percent, count in chance["segments_for"].items())
    return (
        f"{drawn} of the {others} epochs that are not always replayed were drawn: on the submission's kind of machine, "
        f"one replaced state among them is found with probability {100 * chance['found']:.1f} %; {more}"
    )


def _execution(options: argparse.Namespace) -> Execution:
    """Returns how to replay: --dataset-root and --set execution.*; everything else comes from the submission."""
    from sskd.config.validation import from_dict
    from sskd.config.yaml import override

    strange = [setting for setting in options.set if not setting.startswith(PREFIX)]
    if strange:
        raise UserError(
            f"--set {strange[0]}: verify only takes execution.* settings, everything else comes from the submission"
        )
    given = override({}, [setting.removeprefix(PREFIX) for setting in options.set])
    root = {"dataset_root": options.dataset_root} if options.dataset_root else {}
    execution: Execution = from_dict(Execution, given | root, "options")
    return execution
