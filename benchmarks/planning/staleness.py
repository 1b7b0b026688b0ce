"""Staleness: finished runs whose code differs from today's. Plans, tables and the page report them; --rerun retrains
them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.planning.plan import Plan
from sskd import __version__
from sskd.errors import UserError, unknown
from sskd.formatting import first_of
from sskd.runs.plugins import plugins_of
from sskd.runs.records import read_result
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, StudentSpec
from sskd.version import code


def changed_since(spec: RunSpec, result: Mapping[str, Any]) -> str:
    """Returns why a finished run may be outdated, for example "cosine.py has changed", or "" if no change was found.
    Plugins are compared by sha256, not by path; the suite is compared by version number. result: from read_result."""
    machine = result.get("machine", {})
    noted = machine.get("plugins")
    entries = [entry for entry in noted if isinstance(entry, dict)] if isinstance(noted, list) else []
    entries += [file for entry in entries for file in entry.get("imports") or () if isinstance(file, dict)]
    then = {str(entry.get("sha256")): Path(str(entry.get("path"))).name for entry in entries}
    plugins = plugins_of(spec)
    today = {plugin.sha256: plugin.path.name for plugin in plugins}
    today |= {sha256: path.name for plugin in plugins for path, sha256 in plugin.imports}
    names = dict.fromkeys([today[sha] for sha in today.keys() - then.keys()])
    if names and not then:
        reasons = [f"{name} was not recorded" for name in sorted(names)]
    else:
        gone = [then[sha] for sha in then.keys() - today.keys()]
        reasons = [f"{name} has changed" for name in sorted({*names, *gone})]
    version = machine.get("version")
    if version not in (None, __version__):
        reasons.append(f"the suite was version {version}")
    return ", ".join(reasons)


def changed_runs(specs: Iterable[RunSpec], runs: Path) -> dict[str, str]:
    """Returns the reasons, by id, of finished runs that were trained with other code."""
    return {spec.id: why for spec, result in finished_results(specs, runs) if (why := changed_since(spec, result))}


def finished_results(specs: Iterable[RunSpec], runs: Path) -> Iterator[tuple[RunSpec, dict[str, Any]]]:
    """Yields the finished runs with their results, except damaged ones, which the report names."""
    for spec in specs:
        folder = RunFolder(runs, spec)
        if folder.is_finished():
            with suppress(UserError):
                yield spec, read_result(folder.result, spec.role)


def describe_changes(plan: Plan, runs: Path) -> list[str]:
    """Returns lines for the user: finished runs with other code, and with other commits of the suite."""
    by_reason: dict[str, list[str]] = {}
    commits = Counter[Any]()
    for spec, result in finished_results(plan.runs, runs):
        if why := changed_since(spec, result):
            by_reason.setdefault(why, []).append(spec.id)
        commits[result.get("machine", {}).get("commit")] += 1
    lines = [
        f"trained with other code ({why}): {first_of(ids)}; --rerun changed retrains them"
        for why, ids in by_reason.items()
    ]
    today = code()["commit"]
    others = {commit[:12]: count for commit, count in commits.items() if commit and commit != today}
    if today and others:
        counts = ", ".join(f"{commit} ({count})" for commit, count in others.items())
        lines.append(f"finished runs with other commits of the suite than {today[:12]}: {counts}")
    return lines


def runs_to_rerun(plan: Plan, runs: Path, asked: str) -> list[RunSpec]:
    """Returns the finished runs that --rerun selects: "all", "changed", or names separated by commas (methods, roles or
    run ids), and all finished runs that depend on them. "" selects none. Raises UserError for a name that matches
    nothing."""
    if not asked:
        return []
    finished = [spec for spec in plan.runs if RunFolder(runs, spec).is_finished()]
    if asked == "all":
        return finished
    if asked == "changed":
        chosen = set(changed_runs(plan.runs, runs))
    else:
        chosen = set()
        for name in asked.split(","):
            ids = {spec.id for spec in plan.runs if name in _called(spec)}
            if not ids:
                raise unknown("--rerun", name, ["all", "changed", *sorted({_called(s)[0] for s in plan.runs})])
            chosen |= ids
    for spec in plan.runs:  # dependencies come first
        if any(needed.id in chosen for needed in spec.dependencies):
            chosen.add(spec.id)
    return [spec for spec in finished if spec.id in chosen]


def archive_runs(specs: Sequence[RunSpec], runs: Path, log: Callable[[str], None]) -> None:
    """Renames the folders of the runs that are trained again, and logs it."""
    for spec in specs:
        log(f"{spec.id} is trained again; the old run is archived as {RunFolder(runs, spec).archive().name}")
    if specs:
        log("if this is interrupted, resume with the same command without --rerun")


def _called(spec: RunSpec) -> tuple[str, str]:
    return (spec.method.name if isinstance(spec, StudentSpec) else spec.role), spec.id
