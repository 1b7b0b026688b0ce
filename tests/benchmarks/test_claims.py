"""The paper's claims: what each compares, and its verdicts, from results made for it."""

import math

import pandas as pd
import pytest

from benchmarks.report.page_verdicts import claim_entry
from benchmarks.statistics.claims import CLAIMS, Claim, method_claim
from benchmarks.statistics.comparison import Rule
from benchmarks.statistics.judging import deciding_epochs, judge, verdicts
from benchmarks.statistics.verdict import CONTRADICTED, EQUIVALENT, SUPPORTED, UNDECIDED
from benchmarks.statistics.wording import shared_variance_text
from benchmarks.tables import table1, table2, table3, table4
from benchmarks.tables.spec_builder import PAPER_METHODS, method_label
from sskd.runs.settings import method_settings
from tests.benchmarks.made import made_frame

BY_ID = {claim.id: claim for claim in CLAIMS}
ROWS = [method_label(method_settings(name)) for name in PAPER_METHODS]
FEW = ["KD", "AT", "CRD", "SSKD"]
PAIR = "vgg13/vgg8"
JITTER = (0.0, 0.4, -0.3, 0.2, -0.1)
Heights = dict[tuple[str, str], float]


def seeds(value: float, n: int = 5, spread: float = 1.0) -> list[float]:
    return [value + spread * jitter for jitter in JITTER[:n]]


def uneven(value: float, n: int = 5) -> list[float]:
    """Not ``seeds`` moved by a constant: a difference to those has a spread."""
    return seeds(value, n, 1.1)


def sskd_above(rows: list[str], columns: tuple[str, ...] = (PAIR,)) -> Heights:
    return {(row, column): float(row == "SSKD") for row in rows for column in columns}


FALLS = {"SSKD": 1.0, "KD": 3.0, "CRD": 3.0, "FitNet": 5.0, "AT": 5.0}  # points for each unit of noise
# the benchmark of each claim, and how many leads each cell stands above 70
MADE: dict[str, tuple[str, Heights]] = {
    "C1": ("table4", sskd_above(ROWS, table4.PAIRS)),
    "C2": ("table3", sskd_above(ROWS, table3.PAIRS)),
    "C3": ("fig3b", {(row, PAIR): k for row, k in {"CE+KD": 0, "+L_T": 1, "+L_ss": 1, "all": 2}.items()}),
    "C4": ("table1", {("SSKD", f"{ratio:.0%}"): float(ratio == 0.75) for ratio in table1.RATIOS}),
    "C5": ("table2", {(title, PAIR): place for place, title in enumerate(table2.PRETEXTS.values())}),
    "C6": ("table5", sskd_above(["KD", "AT", "SP", "CC", "CRD", "SSKD"], ("resnet34/resnet18",))),
    "C7": ("table6", sskd_above(ROWS[1:])),
    "C8": ("fig4a", sskd_above(FEW, ("25%", "50%", "75%", "100%"))),
    "C9": ("fig4b", {(row, f"{x:.0%}"): -fall * x for row, fall in FALLS.items() for x in (0.0, 0.1, 0.3, 0.5)}),
    "C10": ("fig3a", sskd_above(["Student", "KD", "SSKD"])),
}

COMPARED = {"C1": 1, "C2": 4 * (len(ROWS) - 1), "C3": 4, "C4": 4, "C5": 1}
COMPARED |= {"C6": 5 * 2, "C7": 2 * (len(ROWS) - 2), "C8": 3 * 4, "C9": 4 + 2 * 2, "C10": 2}


def made(claim: str, lead: float, n: int = 5) -> pd.DataFrame:
    """The claim's table with SSKD, or what it says to be better, ahead by ``lead``; each seed has a head of its own."""
    benchmark, heights = MADE[claim]
    values = {cell: (uneven if "SSKD" in cell else seeds)(70 + k * lead, n) for cell, k in heights.items()}
    frame = made_frame(benchmark, values, {"C7": "cka", "C10": "silhouette"}.get(claim, "top1"))
    if claim == "C6":
        frame = frame.assign(last_top5=frame["last_top1"])
    if claim == "C7":
        frame = frame.assign(kl=-frame["cka"])
    return frame.assign(head=frame["row"] + frame["seed"].astype(str))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_the_three_verdicts(claim: Claim) -> None:
    supported = judge(claim, made(claim.id, 3.0))
    assert (supported.verdict, supported.seeds) == (SUPPORTED, 5)
    assert len(supported.comparisons) == COMPARED[claim.id]
    assert supported.lower <= supported.effect <= supported.upper or claim.id == "C5"
    assert judge(claim, made(claim.id, -3.0)).verdict == CONTRADICTED
    one = judge(claim, made(claim.id, 3.0, 1))
    assert (one.verdict, one.seeds, math.isnan(one.lower)) == (UNDECIDED, 1, True)
    assert judge(claim, pd.DataFrame()).verdict == UNDECIDED


@pytest.mark.parametrize(("claim", "lead", "effect"), [("C1", 2.0, 2.0), ("C9", 5.0, 2.5)])
def test_the_effect_is_what_was_put_in(claim: str, lead: float, effect: float) -> None:
    """C9: SSKD's own fall, half of 5."""
    assert judge(BY_ID[claim], made(claim, lead)).effect == pytest.approx(effect, abs=0.03)


def test_the_papers_size_is_held_against_its_own_rates_only() -> None:
    frame = made("C9", 0.9)
    assert "inside the interval" in judge(BY_ID["C9"], frame).sized
    for lead in (5.0, -5.0):
        assert "outside the interval" in judge(BY_ID["C9"], made("C9", lead)).sized
    fewer = judge(BY_ID["C9"], frame[frame["column"] != "50%"])
    assert fewer.measured == "drop of SSKD from 0% to 30% noise"
    assert "another setting" in fewer.sized
    assert judge(BY_ID["C9"], frame[::-1]).measured == "drop of SSKD from 0% to 50% noise"
    one = judge(BY_ID["C9"], frame[frame["column"] == "30%"])
    assert (one.verdict, math.isnan(one.effect)) == (UNDECIDED, True)


def test_an_interval_is_shown_with_its_own_seeds() -> None:
    """SSKD's drop has three seeds, FitNet's one."""
    frame = made("C9", 1.0, 3)
    verdict = judge(BY_ID["C9"], frame[(frame["row"] != "FitNet") | (frame["seed"] == 0)])
    assert (verdict.seeds, verdict.effect_seeds) == (1, 3)
    shown = claim_entry(verdict, verdict, None, ())
    limits = [float(limit) for limit in shown["interval"].split(" to ")]
    assert limits == pytest.approx([verdict.lower, verdict.upper], abs=0.001)
    assert shown["seeds"] == "3 seeds (some comparisons 1)"


def test_equivalence_is_of_the_rules_margin() -> None:
    values = {(row, "25%"): [70.0, 70.1, 69.9, 70.0] for row in FEW}
    assert judge(BY_ID["C8"], made_frame("fig4a", values)).verdict == EQUIVALENT
    assert judge(BY_ID["C8"], made_frame("fig4a", values), rule=Rule(margin=0.1)).verdict == UNDECIDED
    values = {(row, PAIR): [0.7, 0.71, 0.69, 0.7] for row in ("Student", "KD", "SSKD")}
    found = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette"))
    assert found.verdict == UNDECIDED  # half a point is no margin of another measure


@pytest.mark.parametrize(("behind", "verdict"), [(0.0, SUPPORTED), (0.2, SUPPORTED), (0.8, CONTRADICTED)])
def test_best_or_tied_is_not_inferior_to_any_rival_by_the_margin(behind: float, verdict: str) -> None:
    steady = {
        (row, c): [x - behind * (row == "SSKD") for x in (70.0, 70.05, 69.95, 70.0)]
        for row in ("Student", "KD", "SSKD")
        for c in table3.PAIRS
    }
    assert judge(BY_ID["C2"], made_frame("table3", steady)).verdict == verdict


def test_a_method_on_the_floor_cannot_fall() -> None:
    """AT without noise is below the student alone: what it falls says nothing, and "contradicted" would be false."""
    values = {(row, "0%"): seeds(70, 4) for row in ("SSKD", "KD", "CRD")} | {("AT", "0%"): uneven(14, 4)}
    values |= {(row, "50%"): uneven(69.9 if row == "SSKD" else 55, 4) for row in ("SSKD", "KD", "CRD")}
    values |= {("AT", "50%"): seeds(6, 4), ("Student", "50%"): seeds(20, 4)}
    without = judge(BY_ID["C9"], made_frame("fig4b", values))
    assert without.verdict == CONTRADICTED  # AT falls less than KD and CRD
    found = judge(BY_ID["C9"], made_frame("fig4b", values | {("Student", "0%"): seeds(38, 4)}))
    assert found.verdict == SUPPORTED
    by_name = {judged.name: judged.verdict for judged in found.comparisons}
    assert by_name["drop of AT - drop of KD"] == by_name["drop of AT - drop of SSKD"] == "void"
    assert by_name["drop of KD - drop of SSKD"] == SUPPORTED
    assert "AT has 14.1 %, below the student alone (38.1 %)" in found.text
    assert not any("AT" in judged.name for judged in found.decided)


def test_a_drop_is_paired_within_its_method_and_welchs_between_methods() -> None:
    wide = [60.0, 70.0, 80.0, 65.0]  # seeds that differ by far more than they fall
    values = {("SSKD", "0%"): wide, ("SSKD", "50%"): [x - 1 - j for x, j in zip(wide, JITTER, strict=False)]}
    values |= {("KD", "0%"): wide[::-1], ("KD", "50%"): [x - 9 - j for x, j in zip(wide[::-1], JITTER, strict=False)]}
    found = judge(BY_ID["C9"], made_frame("fig4b", values))
    assert found.verdict == SUPPORTED
    assert found.comparisons[0].effect == pytest.approx(8.0)


def test_any_two_methods_are_a_claim() -> None:
    values = {
        ("Mine", "a/b"): uneven(72),
        ("Mine", "c/d"): uneven(74),
        ("KD", "a/b"): seeds(70),
        ("KD", "c/d"): seeds(70),
    }
    claim = method_claim("Mine", "KD", "comparison")
    found = judge(claim, made_frame("comparison", values | {("Mine", "e/f"): seeds(1.0)}))
    assert (claim.id, found.verdict, found.seeds) == ("Mine-KD", SUPPORTED, 5)
    assert found.effect == pytest.approx(3.0, abs=0.01)
    assert found.measured == "Mine - KD, mean over 2 columns"
    assert judge(method_claim("KD", "Mine", "comparison"), made_frame("comparison", values)).verdict == CONTRADICTED
    assert judge(claim, made_frame("comparison", {("KD", "a/b"): seeds(1.0)})).verdict == UNDECIDED


def test_a_task_cannot_be_separated_from_the_variance_of_its_only_head() -> None:
    frame = made("C5", 3.0)
    for heads in (frame["row"], frame["row"].where(frame["row"] == "Jigsaw", frame["head"])):
        verdict = judge(BY_ID["C5"], frame.assign(head=heads))
        assert (verdict.verdict, verdict.need) == (UNDECIDED, None)  # no number of seeds helps
        assert "teacher_seeds" in verdict.text
    assert judge(BY_ID["C5"], frame[1:]).seeds == 4  # of one seed a task is missing


def test_what_seeds_share_is_said_beside_every_verdict() -> None:
    frame = made("C1", 3.0).drop(columns="head")
    own = frame["seed"].astype(str)
    assert shared_variance_text(frame) == ""  # nothing is known of teachers
    one = frame.assign(teacher="t", head="", split_seed="")
    assert "Several seeds share one teacher:" in judge(BY_ID["C1"], one).text
    assert "one split, one teacher and one head:" in shared_variance_text(one.assign(head="h", split_seed="0"))
    assert "share one head:" in shared_variance_text(one.assign(teacher=own, head="h", split_seed=own))
    halves = (frame["seed"] // 2).astype(str)
    assert "share one head:" in shared_variance_text(one.assign(teacher=own, head=halves, split_seed=own))
    assert "share" not in judge(BY_ID["C1"], one.assign(teacher="t" + own, head="h" + own, split_seed=own)).text


def test_undecided_claims_say_how_probably_more_seeds_decide() -> None:
    grow = {(row, c): [70 + s / 2 + (row == "SSKD") for s in range(3)] for row in ROWS for c in table4.PAIRS}
    verdict = judge(BY_ID["C1"], made_frame("table4", grow))
    assert verdict.need is not None
    assert (verdict.need.have, len(verdict.need.cells)) == (3, 12)
    assert f"predictive probability of {round(100 * verdict.need.chance)} %" in verdict.text
    assert judge(BY_ID["C1"], made("C1", 3.0, 3)).need is None
    assert judge(BY_ID["C1"], pd.DataFrame()).need is None


def test_what_would_decide_has_a_price_where_nothing_has_run() -> None:
    """CRD has no run: three of 100 seconds as priced; KD lacks one of its own 10 seconds, AT none."""
    values = {("SSKD", "25%"): seeds(70, 3), ("KD", "25%"): seeds(69, 2), ("AT", "25%"): seeds(60, 3)}
    frame = made_frame("fig4a", values, seconds=10.0, expected_seconds=50.0)
    planned = made_frame("fig4a", {("CRD", "25%"): seeds(0, 3)}, expected_seconds=100.0)
    planned = planned.assign(state="absent", last_top1=math.nan)
    assert "5 min 10 s" in judge(BY_ID["C8"], pd.concat([frame, planned], ignore_index=True)).lacks
    without_estimate = judge(BY_ID["C8"], pd.concat([frame, planned.drop(columns="expected_seconds")]))
    assert "about" not in without_estimate.lacks


def test_each_claim_is_judged_at_its_own_benchmarks_epoch() -> None:
    """Held-out images decide where all runs of the benchmark have them, else the last epoch; never the best on test."""
    behind = made("C1", -3.0)["last_top1"]
    held = made("C1", 3.0).assign(best_top1=behind, chosen_top1=behind, chosen_images=10_000)
    assert [judge(BY_ID["C1"], held, which).verdict for which in ("best", "last")] == [CONTRADICTED, SUPPORTED]
    found = verdicts(pd.concat([held, made("C3", 3.0)], ignore_index=True))
    by_id = {verdict.id: (verdict.epoch, verdict.verdict) for verdict in found}
    assert by_id["C1"] == ("chosen", CONTRADICTED)
    assert (by_id["C3"], by_id["C9"]) == (("last", SUPPORTED), ("last", UNDECIDED))
    assert deciding_epochs(found) == "best validation epoch or last epoch"
    held.loc[0, "chosen_top1"] = math.nan
    assert verdicts(held)[0].epoch == "last"
    assert deciding_epochs(verdicts(pd.DataFrame())) == "last epoch"


@pytest.mark.parametrize("claim", ["C1", "C3", "C5", "C7", "C10"])
def test_parts_name_what_was_trained_first(claim: str) -> None:
    frame = made(claim, 3.0)
    published = set(frame["column"])
    frame["column"] = [f"resnet14/resnet8 for {column}" for column in frame["column"]]
    verdict = judge(BY_ID[claim], frame.assign(run_pair="resnet14/resnet8", dataset="digits"))
    assert verdict.verdict == SUPPORTED
    assert verdict.text.startswith("On digits (")
    assert {column for part in verdict.comparisons for _, column in part.cells} <= set(frame["column"])
    named = [(part.name, pair) for part in verdict.comparisons for pair in published if pair in part.name]
    assert all(f"resnet14/resnet8 for {pair}" in name for name, pair in named)


def test_parts_that_are_decided_show_in_an_undecided_claim() -> None:
    """Far above KD, far below AT in one column, near CRD: the claim is contradicted, without AT undecided."""
    values = {("SSKD", "25%"): seeds(70), ("KD", "25%"): uneven(50), ("AT", "25%"): uneven(90)}
    values["CRD", "25%"] = [70 - jitter for jitter in JITTER]
    verdict = judge(BY_ID["C8"], made_frame("fig4a", values))
    assert verdict.verdict == CONTRADICTED
    assert {part.name: part.verdict for part in verdict.comparisons} == {
        "SSKD - KD, 25%": SUPPORTED,
        "SSKD - AT, 25%": CONTRADICTED,
        "SSKD - CRD, 25%": UNDECIDED,
    }
    parts = claim_entry(verdict, verdict, None, ())["parts_text"]
    assert parts == "2 of 3 comparisons decided: SSKD - KD, 25% (above); SSKD - AT, 25% (below)"
    assert verdict.restated == "SSKD above KD, AT and CRD, in 25%"
    values["AT", "25%"] = uneven(90, 2)
    open_one = judge(BY_ID["C8"], made_frame("fig4a", values))
    assert (open_one.verdict, len(open_one.decided)) == (UNDECIDED, 1)
    assert [part.seeds for part in open_one.comparisons] == [5, 2, 5]


def test_a_claim_about_fewer_methods_says_which_are_left_out() -> None:
    """A profile's table_methods: the rest is decided, and the verdict names what it is not about."""
    values = {("KD", "25%"): uneven(70), ("SSKD", "25%"): seeds(75)}
    verdict = judge(BY_ID["C8"], made_frame("fig4a", values))
    assert verdict.verdict == SUPPORTED
    assert "Without AT, CRD" in verdict.text


@pytest.mark.parametrize("claim", ["C1", "C2", "C6", "C7", "C8", "C9", "C10"])
@pytest.mark.parametrize("rows", [["SSKD"], ["KD", "CRD"]])
def test_a_claim_without_anything_to_compare_with_stays_undecided(claim: str, rows: list[str]) -> None:
    columns = ("0%", "50%") if claim == "C9" else ("25%",)
    verdict = judge(BY_ID[claim], made_frame(MADE[claim][0], {(row, c): seeds(70) for row in rows for c in columns}))
    assert verdict.verdict == UNDECIDED
    assert "too many of these" in verdict.text
