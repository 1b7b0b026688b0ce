"""The paper's claims: all three verdicts, from results made for them."""

import math
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.base import PAPER_METHODS, method_label
from benchmarks.claims import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, Part, decide, judge, verdicts
from benchmarks.page import _claim
from benchmarks.tables import table1, table2, table3, table4
from sskd.config import method_settings
from tests.benchmarks.made import made_frame

BY_ID = {claim.id: claim for claim in CLAIMS}
ROWS = [method_label(method_settings(name)) for name in PAPER_METHODS]
JITTER = (0.0, 0.4, -0.3, 0.2, -0.1)
IMAGENET = {"dataset": "imagenet", "epochs": 100}


def seeds(value: float, n: int = 5) -> list[float]:
    return [value + jitter for jitter in JITTER[:n]]


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
    return made_frame("table2", {(t, "vgg13/vgg8"): seeds(70 + i * lead, n) for i, t in enumerate(titles)})


def c6(lead: float, n: int = 5) -> pd.DataFrame:
    column = "resnet34/resnet18"
    values = {(r, column): seeds(70 + (lead if r == "SSKD" else 0), n) for r in ("KD", "AT", "SP", "CC", "CRD", "SSKD")}
    frame = made_frame("table5", values, **IMAGENET)
    return frame.assign(best_top5=frame["best_top1"], last_top5=frame["last_top1"])


def c7(lead: float, n: int = 5) -> pd.DataFrame:
    column = "vgg13/vgg8"
    cka = {(row, column): seeds(10 + (lead if row == "SSKD" else 0), n) for row in ROWS[1:]}
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
    values = {(row, "vgg13/vgg8"): seeds(lead if row == "SSKD" else 0, n) for row in ("Student", "KD", "SSKD")}
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
    assert supported.lower <= supported.effect <= supported.upper
    assert judge(by_id, made(-3.0)).verdict == CONTRADICTED
    one = judge(by_id, made(3.0, 1))
    assert (one.verdict, one.seeds) == (UNDECIDED, 1)
    assert "one seed" in one.text
    assert math.isnan(one.lower)
    assert judge(by_id, pd.DataFrame()).verdict == UNDECIDED


def test_the_effect_is_what_was_put_in() -> None:
    verdict = judge(BY_ID["C1"], MADE["C1"](2.0))
    assert verdict.effect == pytest.approx(2.0)
    assert "outside" in verdict.text  # all seeds agree on 2.0, the paper says 2.3
    assert judge(BY_ID["C9"], c9(1.0)).effect == pytest.approx(2.5)  # SSKD's own fall: half of 5


def test_an_interval_is_shown_with_its_own_seeds() -> None:
    """SSKD's drop has three seeds, FitNet's one."""
    frame = c9(1.0, 3)
    verdict = judge(BY_ID["C9"], frame[(frame["row"] != "FitNet") | (frame["seed"] == 0)])
    assert (verdict.seeds, verdict.effect_seeds) == (1, 3)
    assert verdict.seeds_text == "3 seeds (some comparisons 1)"
    assert verdict.measured == "drop of SSKD from 0% to 50% noise"
    shown = _claim(verdict, verdict)
    assert shown["interval"] == f"{verdict.lower:.2f} to {verdict.upper:.2f}"
    assert shown["seeds"] == verdict.seeds_text


def test_the_papers_size_is_held_against_its_own_rates_only() -> None:
    frame = c9(1.0)
    fewer = judge(BY_ID["C9"], frame[frame["column"] != "50%"])
    assert fewer.measured == "drop of SSKD from 0% to 30% noise"
    assert "The paper's 0.45 is of other settings: Figure 4b." in fewer.text
    assert "side the interval" in judge(BY_ID["C9"], frame).text
    one = judge(BY_ID["C9"], frame[frame["column"] == "30%"])
    assert one.text == "Undecided, as a drop needs two shares of changed labels, and only 30% was planned."
    assert math.isnan(one.effect)


def test_an_interval_that_spans_the_bound_decides_nothing() -> None:
    column = "vgg13/vgg8"
    values = {("Student", column): [0.0, 0.0, 0.0], ("KD", column): [0.0, 0.0, 0.0], ("SSKD", column): [5.0, -4.0, 1.0]}
    verdict = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette"))
    assert verdict.verdict == UNDECIDED
    assert "spans 0" in verdict.text


def test_two_equal_seeds_decide_nothing() -> None:
    for lead in (-1.0, 1.0):
        verdict, why = decide([Part("SSKD - KD", [lead, lead])])
        assert (verdict, why) == (UNDECIDED, "two equal seeds give no interval (SSKD - KD)")
        assert decide([Part("SSKD - KD", [lead, lead, lead])])[0] == (SUPPORTED if lead > 0 else CONTRADICTED)


def test_best_and_last_epoch_are_judged_apart() -> None:
    frame = MADE["C1"](3.0)
    frame["last_top1"] = MADE["C1"](-3.0)["last_top1"]
    assert [judge(BY_ID["C1"], frame, which).verdict for which in ("best", "last")] == [SUPPORTED, CONTRADICTED]


def test_another_setting_is_said_first() -> None:
    values = {(row, "vgg13/vgg8"): seeds(x) for row, x in (("Student", 0.0), ("KD", 0.0), ("SSKD", 3.0))}
    pairs = {"vgg13/vgg8": "resnet14/resnet8"}
    verdict = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette", pairs, dataset="digits"))
    assert verdict.text.startswith("On digits (resnet14/resnet8 for vgg13/vgg8), not CIFAR-100: supported")
    short = judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette", epochs=12, fraction=0.1))
    assert short.text.startswith("On CIFAR-100 (12 of 240 epochs; 10% of the training images): supported")
    assert judge(BY_ID["C10"], made_frame("fig3a", values, "silhouette")).text.startswith("Supported")


@given(st.lists(st.lists(st.integers(-1000, 1000).map(lambda x: x / 100), max_size=5), min_size=1, max_size=6))
@settings(max_examples=200)
def test_decisions_are_consistent(values: list[list[float]]) -> None:
    parts = [Part(str(i), v) for i, v in enumerate(values)]
    verdict, why = decide(parts)
    assert why
    turned, _ = decide([Part(part.name, [-x for x in part.values]) for part in parts])
    if verdict == SUPPORTED:  # its opposite cannot be supported too, and every part alone is
        assert turned != SUPPORTED
        assert all(decide([part])[0] == SUPPORTED for part in parts)
        assert all(sum(part.values) > 0 for part in parts)
    if any(len(part.values) < 2 for part in parts):
        assert verdict != SUPPORTED
    if all(len(part.values) < 2 for part in parts):
        assert verdict == UNDECIDED
    if verdict == CONTRADICTED:
        assert any(sum(part.values) < 0 for part in parts)
    # shifting everything up cannot turn support into anything else
    if verdict == SUPPORTED:
        assert decide([Part(part.name, [x + 1 for x in part.values]) for part in parts])[0] == SUPPORTED


def test_all_claims_are_judged_on_an_empty_frame() -> None:
    assert {verdict.verdict for verdict in verdicts(pd.DataFrame())} == {UNDECIDED}
