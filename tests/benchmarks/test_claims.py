"""The paper's claims: all verdicts, from results made for them."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.report.page_verdicts import claim_entry
from benchmarks.statistics.claims import CLAIMS, method_claim
from benchmarks.statistics.comparison import Rule
from benchmarks.statistics.judging import deciding_epochs, epoch_that_decides, judge, judge_comparisons, verdicts
from benchmarks.statistics.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    SUPPORTED,
    UNDECIDED,
    Condition,
    Sample,
    decide,
    rank_p,
)
from benchmarks.statistics.wording import shared_variance_text
from benchmarks.tables import table1, table2, table3, table4
from benchmarks.tables.spec_builder import PAPER_METHODS, method_label
from sskd.runs.settings import method_settings
from tests.benchmarks.made import made_frame

BY_ID = {claim.id: claim for claim in CLAIMS}
ROWS = [method_label(method_settings(name)) for name in PAPER_METHODS]
JITTER = (0.0, 0.4, -0.3, 0.2, -0.1)
IMAGENET = {"dataset": "imagenet", "epochs": 100}


def seeds(value: float, n: int = 5) -> list[float]:
    return [value + jitter for jitter in JITTER[:n]]


def part(values: list[float], name: str = "SSKD - KD", **more: float) -> Condition:
    return Condition(name, Sample((), values), **more)  # type: ignore[arg-type]


def uneven(value: float, n: int = 5) -> list[float]:
    """Not ``seeds`` moved by a constant: a difference to those has a spread."""
    return [value + 1.1 * jitter for jitter in JITTER[:n]]


def grid(benchmark: str, columns: tuple[str, ...], lead: float, rows: list[str] = ROWS, n: int = 5) -> pd.DataFrame:
    """SSKD ``lead`` points above all others."""
    values = {(row, c): seeds(70 + (lead if row == "SSKD" else 0), n) for row in rows for c in columns}
    return made_frame(benchmark, values)


def c3(lead: float, n: int = 5) -> pd.DataFrame:
    height = {"CE+KD": 0.0, "+L_T": lead, "+L_ss": lead, "all": 2 * lead}
    return made_frame("fig3b", {(row, "vgg13/vgg8"): seeds(70 + x, n) for row, x in height.items()})


def c4(lead: float, n: int = 5) -> pd.DataFrame:
    shares = [f"{ratio:.0%}" for ratio in table1.RATIOS]
    return made_frame("table1", {("SSKD", s): seeds(70 + (lead if s == "75%" else 0), n) for s in shares})


def c5(lead: float, n: int = 5) -> pd.DataFrame:
    titles = list(table2.PRETEXTS.values())
    frame = made_frame("table2", {(t, "vgg13/vgg8"): seeds(70 + i * lead, n) for i, t in enumerate(titles)})
    return frame.assign(head=frame["row"] + frame["seed"].astype(str))  # one for every seed


def c6(lead: float, n: int = 5) -> pd.DataFrame:
    column = "resnet34/resnet18"
    values = {(r, column): seeds(70 + (lead if r == "SSKD" else 0), n) for r in ("KD", "AT", "SP", "CC", "CRD", "SSKD")}
    frame = made_frame("table5", values, **IMAGENET)
    return frame.assign(best_top5=frame["best_top1"], last_top5=frame["last_top1"])


def c7(lead: float, n: int = 5) -> pd.DataFrame:
    column = "vgg13/vgg8"
    cka = {(row, column): seeds(10, n) if row != "SSKD" else uneven(10 + lead, n) for row in ROWS[1:]}
    frame = made_frame("table6", cka, "cka")
    return frame.assign(kl=-frame["cka"])


def c9(lead: float, n: int = 5) -> pd.DataFrame:
    falls = {"KD": 5 + 2 * lead, "CRD": 5 + 2 * lead, "FitNet": 5 + 4 * lead, "AT": 5 + 4 * lead, "SSKD": 5.0}
    values = {
        (row, f"{noise:.0%}"): seeds(70 - fall * noise, n)
        for row, fall in falls.items()
        for noise in (0.0, 0.1, 0.3, 0.5)
    }
    return made_frame("fig4b", values)


def c10(lead: float, n: int = 5) -> pd.DataFrame:
    values = {(row, "vgg13/vgg8"): seeds(0, n) for row in ("Student", "KD")}
    values["SSKD", "vgg13/vgg8"] = uneven(lead, n)
    return made_frame("fig3a", values, "silhouette")


MADE: dict[str, Callable[..., pd.DataFrame]] = {
    "C1": lambda lead, n=5: grid("table4", table4.PAIRS, lead, n=n),
    "C2": lambda lead, n=5: grid("table3", table3.PAIRS, lead, n=n),
    "C3": c3,
    "C4": c4,
    "C5": c5,
    "C6": c6,
    "C7": c7,
    "C8": lambda lead, n=5: grid("fig4a", ("25%", "50%", "75%", "100%"), lead, ["KD", "AT", "CRD", "SSKD"], n),
    "C9": c9,
    "C10": c10,
}


def test_every_claim_is_tested() -> None:
    assert list(MADE) == [claim.id for claim in CLAIMS] == [f"C{i}" for i in range(1, 11)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_the_three_verdicts(claim: object) -> None:
    made, by_id = MADE[claim.id], BY_ID[claim.id]  # type: ignore[attr-defined]
    supported = judge(by_id, made(3.0))
    assert (supported.verdict, supported.seeds) == (SUPPORTED, 5)
    assert supported.runs
    assert supported.lower <= supported.effect <= supported.upper or claim.id == "C5"  # type: ignore[attr-defined]
    assert judge(by_id, made(-3.0)).verdict == CONTRADICTED
    one = judge(by_id, made(3.0, 1))
    assert (one.verdict, one.seeds) == (UNDECIDED, 1)
    assert "needs three seeds" in one.text
    assert math.isnan(one.lower)
    assert judge(by_id, pd.DataFrame()).verdict == UNDECIDED


def test_the_effect_is_what_was_put_in() -> None:
    verdict = judge(BY_ID["C1"], MADE["C1"](2.0))
    assert verdict.effect == pytest.approx(2.0)
    assert "inside" in verdict.text
    assert verdict.text.startswith(
        f"SSKD - CRD, mean over 6 pairs: +2.000 [{verdict.lower:.3f}, {verdict.upper:.3f}]: supported"
    )
    assert judge(BY_ID["C9"], c9(1.0)).effect == pytest.approx(2.5)  # SSKD's own fall: half of 5


def test_an_interval_is_shown_with_its_own_seeds() -> None:
    """SSKD's drop has three seeds, FitNet's one."""
    frame = c9(1.0, 3)
    verdict = judge(BY_ID["C9"], frame[(frame["row"] != "FitNet") | (frame["seed"] == 0)])
    assert (verdict.seeds, verdict.effect_seeds) == (1, 3)
    assert verdict.seeds_text == "3 seeds (some comparisons 1)"
    assert verdict.measured == "drop of SSKD from 0% to 50% noise"
    shown = claim_entry(verdict, verdict)
    assert shown["interval"] == f"{verdict.lower:.2f} to {verdict.upper:.2f}"
    assert shown["seeds"] == verdict.seeds_text


def test_the_papers_size_is_held_against_its_own_rates_only() -> None:
    frame = c9(1.0)
    fewer = judge(BY_ID["C9"], frame[frame["column"] != "50%"])
    assert fewer.measured == "drop of SSKD from 0% to 30% noise"
    assert "another setting" in fewer.sized
    assert "side the interval" in judge(BY_ID["C9"], frame).text
    one = judge(BY_ID["C9"], frame[frame["column"] == "30%"])
    assert "only 30% was planned" in one.text
    assert math.isnan(one.effect)


def test_an_interval_that_spans_the_bound_decides_nothing() -> None:
    column = "vgg13/vgg8"
    values = {("Student", column): [0.0, 0.0, 0.0], ("KD", column): [0.0, 0.0, 0.0], ("SSKD", column): [5.0, -4.0, 1.0]}
    verdict = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette"))
    assert verdict.verdict == UNDECIDED
    assert "its bound 0" in verdict.text


@pytest.mark.parametrize("lead", [-1.0, 1.0])
def test_equal_seeds_decide_by_what_is_known_of_their_spread(lead: float) -> None:
    verdict, why = decide([part([lead] * 3)])
    assert verdict == UNDECIDED
    assert "no interval (SSKD - KD)" in why
    assert decide([part([lead] * 3, min_std=0.1)])[0] == (SUPPORTED if lead > 0 else CONTRADICTED)
    assert decide([part([lead] * 3, min_std=0.3)])[0] == UNDECIDED  # 3 seeds: 5.2 deviations
    assert decide([part([lead] * 2, min_std=0.1)])[0] == UNDECIDED


def test_a_difference_within_the_margin_is_equivalent() -> None:
    assert decide([part([0.1, -0.1, 0.0, 0.05], margin=0.5)]) == (EQUIVALENT, "no difference is larger than 0.5")
    assert decide([part([0.1, -0.1, 0.0, 0.05], margin=0.1)])[0] == UNDECIDED
    assert decide([part([0.2, 0.21, 0.19, 0.2], margin=0.5)])[0] == SUPPORTED  # small, and surely above
    both = [part([0.1, -0.1, 0.0, 0.05], margin=0.5), part([2.0, -2.0, 1.0], margin=0.5)]
    assert decide(both)[0] == UNDECIDED
    assert [judged.verdict for judged in judge_comparisons(both, UNDECIDED)] == [EQUIVALENT, UNDECIDED]
    values = {(row, "25%"): [70.0, 70.1, 69.9, 70.0] for row in ("KD", "AT", "CRD", "SSKD")}
    assert judge(BY_ID["C8"], made_frame("fig4a", values)).verdict == EQUIVALENT
    assert judge(BY_ID["C8"], made_frame("fig4a", values), rule=Rule(margin=0.1)).verdict == UNDECIDED


def test_void_comparisons_count_in_no_correction() -> None:
    low, middle, high = (Sample((), values) for values in ([1.0, 1.1, 1.2], [1.1, 1.0, 1.3], [9.0, 9.1, 9.2]))
    parts = [Condition("void", middle, low, void="it cannot be tested"), Condition("sure", high, low)]
    assert [judged.verdict for judged in judge_comparisons(parts, UNDECIDED)] == ["void", "supported"]


def test_best_or_tied_is_not_inferior_to_any_rival_by_the_margin() -> None:
    """C2: 0.2 points below the best is tied, 0.8 is not."""
    few = [row for row in ROWS if row in ("Student", "KD", "SSKD")]
    steady = {(row, c): [70.0, 70.05, 69.95, 70.0] for row in few for c in table3.PAIRS}
    assert judge(BY_ID["C2"], made_frame("table3", steady)).verdict == SUPPORTED
    lower = {cell: [x - 0.8 * (cell[0] == "SSKD") for x in values] for cell, values in steady.items()}
    assert judge(BY_ID["C2"], made_frame("table3", lower)).verdict == CONTRADICTED


def test_rank_correlations_have_an_exact_test() -> None:
    """One of 24 orders is perfect: three seeds of it have p = 24^-3; with nine of -1 to 0.8 nothing is rare."""
    assert float(rank_p(np.array([1.0]))) == pytest.approx(1 / 24)
    assert float(rank_p(np.array([0.8]))) == pytest.approx(4 / 24)  # three orders exchange two neighbours
    assert float(rank_p(np.array([1.0, 1.0, 1.0]))) == pytest.approx(24.0**-3)
    assert float(rank_p(np.array([-1.0, -1.0]))) == pytest.approx(1.0)
    low, high = (judge(BY_ID["C5"], c5(lead)) for lead in (-3.0, 3.0))
    assert (low.verdict, high.verdict, high.effect, math.isnan(high.lower)) == (CONTRADICTED, SUPPORTED, 1.0, True)
    orders = Condition("", Sample((), [0.2, 0.4, 0.0]), ranks=True)
    assert decide([orders])[0] == UNDECIDED


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
    assert "at 0% noise AT has 14.1 %, below the student alone (38.1 %)" in found.text
    assert not any("AT" in judged.name for judged in found.decided)


def test_a_drop_is_paired_within_its_method_and_welchs_between_methods() -> None:
    wide = [60.0, 70.0, 80.0, 65.0]  # seeds that differ by far more than they fall
    values = {("SSKD", "0%"): wide, ("SSKD", "50%"): [x - 1 - j for x, j in zip(wide, JITTER, strict=False)]}
    values |= {("KD", "0%"): wide[::-1], ("KD", "50%"): [x - 9 - j for x, j in zip(wide[::-1], JITTER, strict=False)]}
    found = judge(BY_ID["C9"], made_frame("fig4b", values))
    assert found.verdict == SUPPORTED
    assert found.comparisons[0].effect == pytest.approx(8.0)


def test_any_two_methods_are_a_claim() -> None:
    values = {("Mine", c): uneven(72 + x) for c, x in (("a/b", 0), ("c/d", 2))} | {
        ("KD", c): seeds(70) for c in ("a/b", "c/d")
    }
    claim = method_claim("Mine", "KD", "comparison")
    found = judge(claim, made_frame("comparison", values | {("Mine", "e/f"): seeds(1.0)}))
    assert (claim.id, found.verdict, found.effect, found.seeds) == (
        "Mine-KD",
        SUPPORTED,
        pytest.approx(3.0, abs=0.01),
        5,
    )
    assert found.measured == "Mine - KD, mean over 2 columns"
    assert judge(method_claim("KD", "Mine", "comparison"), made_frame("comparison", values)).verdict == CONTRADICTED
    assert judge(claim, made_frame("comparison", {("KD", "a/b"): seeds(1.0)})).verdict == UNDECIDED


def test_a_task_cannot_be_separated_from_the_variance_of_its_only_head() -> None:
    frame = c5(3.0)
    for heads in (frame["row"], frame["row"].where(frame["row"] == "Jigsaw", frame["head"])):
        verdict = judge(BY_ID["C5"], frame.assign(head=heads))
        assert verdict.verdict == UNDECIDED
        assert "teacher_seeds" in verdict.text
        assert verdict.need is None  # no number of seeds helps


def test_what_seeds_share_is_said_beside_every_verdict() -> None:
    frame = MADE["C1"](3.0)
    own = frame["seed"].astype(str)
    assert shared_variance_text(frame) == ""  # nothing is known of teachers
    one = frame.assign(teacher="t", head="", split_seed="")
    assert "Several seeds share one teacher:" in judge(BY_ID["C1"], one).text
    assert "one split, one teacher and one head:" in shared_variance_text(one.assign(head="h", split_seed="0"))
    assert "share one head:" in shared_variance_text(one.assign(teacher=own, head="h", split_seed=own))
    apart = one.assign(teacher="t" + own, head="h" + own, split_seed=own)
    assert "share" not in judge(BY_ID["C1"], apart).text


def test_undecided_claims_say_how_probably_more_seeds_decide() -> None:
    grow = {
        (row, c): [70.0 + (1 + s / 2 if row == "SSKD" else s / 2) for s in range(3)]
        for row in ROWS
        for c in table4.PAIRS
    }
    verdict = judge(BY_ID["C1"], made_frame("table4", grow))
    assert verdict.need is not None
    assert (verdict.need.have, len(verdict.need.cells)) == (3, 12)
    assert (
        f"10 seeds decide it with a predictive probability of {round(100 * verdict.need.chance)} %, in half"
        in verdict.text
    )
    assert "3 seeds are needed" in judge(BY_ID["C1"], MADE["C1"](3.0, 1)).text
    assert judge(BY_ID["C1"], MADE["C1"](3.0, 3)).need is None
    assert judge(BY_ID["C1"], pd.DataFrame()).need is None


def test_held_out_selection_decides_where_all_runs_have_it() -> None:
    frame = MADE["C1"](3.0)
    assert epoch_that_decides(frame) == "last"
    chosen = frame.assign(chosen_top1=MADE["C1"](-3.0)["last_top1"], chosen_images=10_000)
    assert epoch_that_decides(chosen) == "chosen"
    by_id = {verdict.id: verdict for verdict in verdicts(chosen)}
    assert (by_id["C1"].verdict, by_id["C1"].epoch) == (CONTRADICTED, "chosen")
    chosen.loc[0, "chosen_top1"] = math.nan
    assert epoch_that_decides(chosen) == "last"


def test_each_claim_is_judged_by_its_own_benchmarks_epoch() -> None:
    held = MADE["C1"](3.0)
    held = held.assign(chosen_top1=MADE["C1"](-3.0)["last_top1"], chosen_images=10_000)
    frame = pd.concat([held, MADE["C3"](3.0)], ignore_index=True)
    found = verdicts(frame)
    epochs = {verdict.id: verdict.epoch for verdict in found}
    assert (epochs["C1"], epochs["C3"], epochs["C9"]) == ("chosen", "last", "last")
    assert deciding_epochs(found) == "best validation epoch or last epoch"
    assert deciding_epochs(verdicts(pd.DataFrame())) == "last epoch"


@pytest.mark.parametrize("claim", ["C1", "C3", "C5", "C7", "C10"])
def test_parts_name_what_was_trained_first(claim: str) -> None:
    frame = MADE[claim](3.0)
    published = set(frame["column"])
    frame["column"] = [f"resnet14/resnet8 for {column}" for column in frame["column"]]
    frame["run_pair"] = "resnet14/resnet8"
    verdict = judge(BY_ID[claim], frame)
    assert verdict.verdict == judge(BY_ID[claim], MADE[claim](3.0)).verdict == SUPPORTED
    columns = {column for part in verdict.comparisons for _, column in part.cells}
    assert columns <= set(frame["column"])
    assert all(f"resnet14/resnet8 for {pair}" in part.name for pair in published for part in verdict.comparisons
               if pair in part.name)  # fmt: skip


def test_best_and_last_epoch_are_judged_apart() -> None:
    frame = MADE["C1"](3.0)
    frame["last_top1"] = MADE["C1"](-3.0)["last_top1"]
    assert [judge(BY_ID["C1"], frame, which).verdict for which in ("best", "last")] == [SUPPORTED, CONTRADICTED]


def test_another_setting_is_said_first() -> None:
    values = {(row, "vgg13/vgg8"): seeds(0.0) for row in ("Student", "KD")} | {("SSKD", "vgg13/vgg8"): uneven(3.0)}
    pairs = {"vgg13/vgg8": "resnet14/resnet8"}
    verdict = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette", pairs, dataset="digits"))
    assert verdict.text.startswith("On digits (resnet14/resnet8 for vgg13/vgg8), not CIFAR-100: SSKD - ")
    short = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette", epochs=12, fraction=0.1))
    assert short.text.startswith("On CIFAR-100 (12 of 240 epochs; 10% of the training images): SSKD - ")
    assert judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette")).text.startswith("SSKD - ")


@given(st.lists(st.lists(st.integers(-1000, 1000).map(lambda x: x / 100), max_size=5), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_decisions_are_consistent(values: list[list[float]]) -> None:
    parts = [part(v, str(i)) for i, v in enumerate(values)]
    verdict, why = decide(parts)
    assert why
    turned, _ = decide([part([-x for x in v]) for v in values])
    if verdict == SUPPORTED:  # its opposite cannot be supported too, every part alone is, and higher values stay so
        assert turned != SUPPORTED
        assert all(decide([one])[0] == SUPPORTED for one in parts)
        assert all(sum(v) > 0 for v in values)
        assert decide([part([x + 1 for x in v]) for v in values])[0] == SUPPORTED
    if any(len(v) < 3 for v in values):
        assert verdict != SUPPORTED
    if all(len(v) < 3 for v in values):
        assert verdict == UNDECIDED
    if verdict == CONTRADICTED:
        assert any(sum(v) < 0 for v in values)
    judged = [one.verdict for one in judge_comparisons(parts, verdict)]
    assert (verdict == SUPPORTED) == (set(judged) == {SUPPORTED}) or SUPPORTED in judged
    assert (verdict == CONTRADICTED) == (CONTRADICTED in judged)
    assert all(one.verdict in (one.alone, UNDECIDED) for one in judge_comparisons(parts, verdict))


def test_all_claims_are_judged_on_an_empty_frame() -> None:
    assert {verdict.verdict for verdict in verdicts(pd.DataFrame())} == {UNDECIDED}


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
    assert [part.name for part in verdict.decided] == ["SSKD - KD, 25%", "SSKD - AT, 25%"]
    assert verdict.restated == "SSKD above KD, AT and CRD, in 25%"
    values["AT", "25%"] = uneven(90, 2)
    open_one = judge(BY_ID["C8"], made_frame("fig4a", values))
    assert (open_one.verdict, len(open_one.decided)) == (UNDECIDED, 1)
    assert [part.seeds for part in open_one.comparisons] == [5, 2, 5]


def test_parts_that_are_all_chance_are_hardly_ever_decided() -> None:
    """150 claims of twelve parts without a difference, five seeds: in at most one of twenty any part is called decided,
    though by their own intervals more have one."""
    random = np.random.default_rng(0)
    decided = alone = 0
    for _ in range(150):
        parts = [part(list(random.normal(size=5)), min_std=1e-6) for _ in range(12)]
        judged = judge_comparisons(parts, UNDECIDED)
        decided += any(part.verdict != UNDECIDED for part in judged)
        alone += any(part.alone != UNDECIDED for part in judged)
    assert decided <= 8 < alone


def test_what_is_compared_is_said_in_words() -> None:
    tied = judge(BY_ID["C2"], MADE["C2"](3.0)).restated
    assert tied.startswith("SSKD above Student, KD, FitNet, AT, SP and ")
    assert "more, or at most 0.5 below, in wrn_40_2/wrn_16_2, " in tied
    assert judge(BY_ID["C4"], MADE["C4"](3.0)).restated.startswith("75% - 0% kept; 75% - ")
    assert judge(BY_ID["C8"], MADE["C8"](3.0)).restated == "SSKD above KD, AT and CRD, in 25%, 50%, 75% and 100%"
    assert judge(BY_ID["C8"], pd.DataFrame()).restated == ""


def test_what_would_decide_has_a_price_where_nothing_has_run() -> None:
    """CRD has no run: three of 100 seconds as priced; KD lacks one of its own 10 seconds, AT none."""
    values = {("SSKD", "25%"): seeds(70, 3), ("KD", "25%"): seeds(69, 2), ("AT", "25%"): seeds(60, 3)}
    frame = made_frame("fig4a", values, seconds=10.0, expected_seconds=50.0)
    planned = made_frame("fig4a", {("CRD", "25%"): seeds(0, 3)}, expected_seconds=100.0)
    planned = planned.assign(state="absent", last_top1=math.nan, best_top1=math.nan)
    verdict = judge(BY_ID["C8"], pd.concat([frame, planned], ignore_index=True))
    assert "about 5 min 10 s more" in verdict.lacks
    without_estimate = judge(BY_ID["C8"], pd.concat([frame, planned.drop(columns="expected_seconds")]))
    assert "about" not in without_estimate.lacks


def test_a_claim_about_fewer_methods_says_which_are_left_out() -> None:
    """A profile's table_methods: the rest is decided, and the verdict names what it is not about."""
    values = {(row, "25%"): uneven(70) if row == "KD" else seeds(75) for row in ("KD", "SSKD")}
    verdict = judge(BY_ID["C8"], made_frame("fig4a", values))
    assert verdict.verdict == SUPPORTED
    assert "Without AT, CRD" in verdict.text
    noisy = {(row, noise): seeds(70 - drop * (noise == "50%")) for row, drop in (("SSKD", 1), ("KD", 1)) for noise in
             ("0%", "50%")}  # fmt: skip
    noisy["AT", "0%"], noisy["AT", "50%"] = seeds(70), uneven(50)
    verdict = judge(BY_ID["C9"], made_frame("fig4b", noisy))
    assert "Without FitNet, CRD, which" in verdict.text


@pytest.mark.parametrize("claim", ["C1", "C2", "C6", "C7", "C8", "C9", "C10"])
def test_a_claim_without_anything_to_compare_with_stays_undecided(claim: str) -> None:
    benchmark = BY_ID[claim].benchmark
    columns = ("0%", "50%") if claim == "C9" else ("25%",)
    for rows in (["SSKD"], ["KD", "CRD"]):
        verdict = judge(BY_ID[claim], made_frame(benchmark, {(row, c): seeds(70) for row in rows for c in columns}))
        assert verdict.verdict == UNDECIDED
        assert "too many of these" in verdict.text
