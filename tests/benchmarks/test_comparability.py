"""The comparability card: another question is refused and named, other rounding or code is said and drops nothing."""

from pathlib import Path

import pytest

from benchmarks.analysis.comparability import exclude_incomparable
from benchmarks.analysis.comparability_fields import COLUMN, ITEMS, comparability_columns
from benchmarks.profiles.profile import Profile
from benchmarks.profiles.read import read_profile
from benchmarks.report.comparability import comparability_notes
from benchmarks.report.tables import markdown, summary
from benchmarks.report.write import write_report
from benchmarks.tables.benchmark import BENCHMARKS
from sskd.errors import UserError
from sskd.networks.fingerprint import network_sha256
from tests import small
from tests.benchmarks.made import cells_of, finish, made_frame

PAIR = "resnet56/resnet20"
BENCHMARK = BENCHMARKS["comparison"]
USUAL = {
    "network": "b" * 64,
    "teacher's weights": "a" * 64,
    "head's weights": "e" * 64,
    "training images": "c" * 64,
    "pixels": "e" * 64,
    "normalisation": "mean [0.5], sd [0.2]",
    "batch per process": "64 (of 64)",
    "precision": "fp32",
    "version of the suite": "0.1.0",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
    "numpy": "2.0",
    "commit": "abc",
    "device": "one",
}
Changes = dict[str, dict[str, str | None]]


def profile(*settings: str) -> Profile:
    return read_profile("paper", ["methods=[none,kd,sskd]", f"pair={PAIR}", *settings])


class Card:
    """The table and card of three seeds of three methods that have USUAL, but what ``changes`` says by method or by
    method and seed."""

    def __init__(self, profile: Profile, changes: Changes) -> None:
        frame = made_frame("comparison", {(row, PAIR): [70.0, 71.0, 72.0] for row in ("Student", "KD", "SSKD")})
        frame = frame.assign(network="resnet20", **{COLUMN + item: value for item, value in USUAL.items()})
        for index, run in frame.iterrows():
            own = changes.get(f"{run['row']} {run['seed']}", changes.get(run["row"], {}))
            for item, value in own.items():
                frame.loc[index, COLUMN + item] = value  # type: ignore[index]
        frame, cards = exclude_incomparable(frame, profile)
        card = cards["comparison"]
        self.notes = "\n".join(comparability_notes(card, profile.waivers))
        self.lines = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in
                      markdown(summary(frame, BENCHMARK), BENCHMARK).splitlines()}  # fmt: skip
        self.seeds = {row: self.lines[row][2] for row in ("KD", "SSKD")}
        self.refused = {(entry.row, entry.run) for entry in card.refused}
        self.outcomes = {entry.part: entry.outcome for entry in card.fields}
        self.not_recorded = {entry.part: entry.not_recorded for entry in card.fields}


@pytest.mark.parametrize(
    "item", ["network", "teacher's weights", "training images", "pixels", "normalisation", "batch per process"]
)
def test_another_question_is_refused_and_named(item: str) -> None:
    found = Card(profile(), {"SSKD": {item: "d" * 64}})
    assert found.seeds == {"KD": "3", "SSKD": "0"}
    assert found.lines["SSKD"][3] == "-"  # no mean
    assert f"refused: {item} differs" in found.lines["SSKD"][-1]
    assert {row for row, _ in found.refused} == {"SSKD"}
    assert [part for part, outcome in found.outcomes.items() if outcome == "refused"] == [item]


def test_one_seed_of_another_teacher_is_refused() -> None:
    found = Card(profile(), {"KD 1": {"teacher's weights": "d" * 64}})
    assert found.seeds == {"KD": "2", "SSKD": "3"}
    assert "1 of 3: refused: teacher's weights differs: dddddddddddd, but aaaaaaaaaaaa" in found.lines["KD"][-1]
    assert len(found.refused) == 1


@pytest.mark.parametrize(
    ("item", "field", "value"),
    [
        ("torch", "packages", "2.14.0"),
        ("torchvision", "packages", "0.28.0"),
        ("numpy", "packages", "1.0"),
        ("precision", "precision", "bf16"),
        ("version of the suite", "version", "0.0.1"),
        ("head's weights", "head", "f"),
    ],
)
def test_other_rounding_or_code_is_said_and_drops_nothing(item: str, field: str, value: str) -> None:
    """One seed that was added later. With ``strict`` the same table refuses it."""
    changes: Changes = {"SSKD 1": {item: value}}
    found = Card(profile(), changes)
    assert found.seeds == {"KD": "3", "SSKD": "3"}
    assert f" {value}, not {USUAL[item][:12]}" in found.lines["SSKD"][-1]
    assert f", not {USUAL[item][:12]}" not in found.lines["KD"][-1]
    assert f"differ in {item}: " in found.notes
    assert found.refused == set()
    strict = Card(profile(f"strict=[{field}]"), changes)
    assert strict.seeds == {"KD": "3", "SSKD": "2"}
    assert strict.outcomes[item] == "refused"


def test_every_seed_may_have_its_teacher_where_the_profile_says_so() -> None:
    own: Changes = {f"{row} {seed}": {"teacher's weights": f"t{seed}"} for row in ("KD", "SSKD") for seed in range(3)}
    own |= {"Student": {"teacher's weights": ""}}  # does not apply
    assert Card(profile("teacher_seeds=true"), own).refused == set()
    assert Card(profile(), own).refused != set()


def test_another_commit_or_machine_is_only_counted_and_nothing_recorded_is_no_difference() -> None:
    nothing = dict.fromkeys(USUAL) | {"batch per process": USUAL["batch per process"]}
    found = Card(profile(), {"SSKD": {"commit": "def", "device": "another"}, "KD": nothing})
    assert found.seeds == {"KD": "3", "SSKD": "3"}
    assert "differ in commit: abc (3), def (3)." in found.notes
    assert "differ in device" in found.notes
    assert found.not_recorded["teacher's weights"] == 3


def test_a_waiver_allows_a_field_and_gives_its_reason_in_the_report(tmp_path: Path) -> None:
    """A batch of another size is a choice of the profile's, which the table asks to be owned."""
    changes: Changes = {"SSKD": {"batch per process": "128 (of 128)"}}
    found = Card(profile('waivers={"batch": "four views"}'), changes)
    assert (found.outcomes["batch per process"], found.seeds["SSKD"]) == ("waived", "3")
    waived = profile('method_recipes={"sskd": {"batch_size": 128}}', 'waivers={"batch": "four views"}')
    cells = cells_of(waived, "comparison")
    finish(cells, tmp_path / "runs", lambda spec: 70.0 + spec.seed)
    text = write_report(waived, cells, tmp_path).texts["comparison"]
    assert "differ in batch per process: 64 (of 64) (6), 128 (of 128) (3); waived: four views." in text
    page = (tmp_path / "index.html").read_text()
    assert "<td>batch per process</td><td>64 (of 64) (6); 128 (of 128) (3) [waived]</td>" in page


@pytest.mark.parametrize(
    "setting",
    [
        "strict=[batch]",
        "strict=[torch]",
        "strict=[packages, packages]",
        'waivers={"rate": "x"}',
        'waivers={"batch": ""}',
    ],
)
def test_strict_is_of_fields_that_are_only_said_and_waivers_say_why(setting: str) -> None:
    with pytest.raises(UserError, match=setting.split("=")[0]):
        profile(setting)


def test_what_a_run_says_of_itself() -> None:
    """Builds of one version of torch are no difference; what is not recorded is None, what does not apply is empty."""
    spec = small.spec(small.student("kd"))
    machine = {"torch": "2.14.1+cu130", "packages": {"numpy": "2.0"}, "commit": "abc"}
    known = {"teacher": "t", "head": None, "mean": [0.5], "std": [0.2], "image_size": 32}
    found = comparability_columns(spec, {"machine": machine, "measured_with": known, "precision": "bf16"})
    assert list(found) == [item.column for item in ITEMS]
    expected = {"torch": "2.14.1", "numpy": "2.0", "commit": "abc", "precision": "bf16", "pixels": None, "pillow": None}
    expected |= {"teacher's weights": "t", "head's weights": "", "batch per process": "32 (of 32)"}
    expected |= {"normalisation": "32 pixels, mean [0.5], sd [0.2]"}
    assert {item: found[COLUMN + item] for item in expected} == expected
    assert comparability_columns(spec, {})[f"{COLUMN}torch"] is None


def test_a_networks_fingerprint() -> None:
    assert network_sha256("resnet8", 10) == network_sha256("resnet8", 10)
    others = {network_sha256("resnet8", 10), network_sha256("resnet8", 11), network_sha256("resnet14", 10)}
    assert len(others) == 3
