"""The power of claims that hold for ties."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from benchmarks.statistics.claims import CLAIMS
from benchmarks.statistics.comparison import Rule
from benchmarks.statistics.power import tie_power, tie_power_text
from benchmarks.statistics.verdict import SUPPORTED, Condition, Sample, decide

BY_ID = {claim.id: claim for claim in CLAIMS}


def test_the_power_is_the_share_of_ties_that_the_rule_supports() -> None:
    rng, supported = np.random.default_rng(5), 0
    for _ in range(200):
        parts = [Condition("", *(Sample((), 0.4 * rng.standard_normal(10)) for _ in range(2)), -0.5) for _ in range(2)]
        supported += any(decide([part.at(n) for part in parts])[0] == SUPPORTED for n in range(3, 11))
    assert supported / 200 == pytest.approx(tie_power(0.4, 2), abs=0.1)


def test_more_pairs_and_noise_cost_power_and_a_wider_margin_gives_some() -> None:
    assert tie_power(0.1, 1) > 0.99
    assert tie_power(0.3, 4) < tie_power(0.3, 2) < tie_power(0.3, 1)
    assert tie_power(0.6, 1) < tie_power(0.3, 1) < tie_power(0.3, 1, Rule(margin=1.0))


def table3(std: float, seeds: int) -> pd.DataFrame:
    """Two pairs of table 3; only the first has runs, with this standard deviation of SSKD's."""
    pairs = ("wrn_40_2/wrn_16_2", "resnet32x4/resnet8x4")
    rows = []
    for row, pair, seed in product(("SSKD", "KD"), pairs, range(seeds)):
        known = pair == pairs[0]
        top1 = 50 + std * (seed - (seeds - 1) / 2) if known else np.nan
        rows.append((row, pair, pair, seed, "finished" if known else "absent", top1))
    frame = pd.DataFrame(rows, columns=["row", "column", "run_pair", "seed", "state", "last_top1"])
    return frame.assign(benchmark="table3", role="student", pair=frame["column"])


def test_the_text_names_the_deviation_of_finished_cells_and_the_pairs() -> None:
    text = tie_power_text(BY_ID["C2"], table3(0.3, 3), Rule())
    assert f"{round(100 * tie_power(0.3, 2))} %" in text
    assert "2 pairs" in text
    assert "0.30 points" in text


def test_there_is_none_without_three_seeds_or_for_a_claim_of_a_lead() -> None:
    assert tie_power_text(BY_ID["C2"], table3(0.3, 2), Rule()) == ""
    assert tie_power_text(BY_ID["C1"], table3(0.3, 3).assign(benchmark="table4"), Rule()) == ""
