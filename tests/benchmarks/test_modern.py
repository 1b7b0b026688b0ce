"""The table of newer methods: its cells, whose numbers stand beside them, and its figure."""

import math

import pandas as pd
import pytest

from benchmarks.analysis.published import published, published_elsewhere
from benchmarks.planning.plan import make_plan
from benchmarks.profiles.read import parse_method, read_profile
from benchmarks.report.gains import gains, gains_by_year, year_of
from benchmarks.report.tables import markdown, notes, summary
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.modern import PAIRS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.spec import StudentSpec

ONE = ["seeds=[0]"]


def test_every_method_on_every_pair_that_it_can_be_used_with() -> None:
    cells = BENCHMARKS["modern"].cells(SpecBuilder(read_profile("paper", ONE)))
    rows = {cell.row for cell in cells}
    titles = {METHODS[name].info.title for name in METHODS if METHODS[name].info.year}
    hosted = {
        "HSAKD*",
        "SDD on DKD",
        "SDD on NKD",
        "NormKD on DKD",
        "KD++ on DKD",
        "DOT on CRD",
        "KD+LSKD",
        "DKD+LSKD",
        "MLKD+LSKD",
        "CTKD+LSKD",
    }
    assert titles | hosted | {"Teacher", "Student"} == rows
    there = {(cell.row, cell.column) for cell in cells}
    absent = {(row, pair) for row in rows for pair in PAIRS} - there
    assert {row for row, _ in absent} == {"FSP"}
    make_plan(cell.spec for cell in cells)  # refuses nothing


def test_published_settings_of_the_pair_are_in_the_specs() -> None:
    cells = BENCHMARKS["modern"].cells(SpecBuilder(read_profile("paper", ONE)))
    found = {(cell.row, cell.column): cell.spec for cell in cells}
    settings = {key: spec.method.model_dump() for key, spec in found.items() if isinstance(spec, StudentSpec)}
    assert settings["ReviewKD", "resnet56/resnet20"]["weight"] == 0.6
    assert settings["DKD", "vgg13/vgg8"]["nckd_weight"] == 6.0
    assert settings["DKD+LSKD", "resnet56/resnet20"]["nckd_weight"] == 36.0
    assert settings["CAT-KD", "resnet32x4/ShuffleV1"]["size"] == 4
    assert settings["TTM", "resnet32x4/ShuffleV2"]["gamma"] == 0.4
    assert settings["SDD on DKD", "vgg13/vgg8"]["nckd_weight"] == 6.0
    assert settings["SDD on NKD", "ResNet50/vgg8"]["grids"] == (1, 2)
    assert settings["SDD on NKD", "ResNet50/vgg8"]["warmup_epochs"] == 20.0


def test_smoke_stands_small_pairs_in_and_short_heads() -> None:
    cells = BENCHMARKS["modern"].cells(SpecBuilder(read_profile("smoke", ONE)))
    heads = {cell.spec.head for cell in cells if isinstance(cell.spec, StudentSpec) and cell.spec.head}
    assert {head.pretext.name for head in heads} == {"contrastive", "hsakd"}
    joint = {head for head in heads if getattr(head.pretext, "joint", False)}
    assert all(head.recipe.epochs <= 3 for head in heads - joint)
    assert {head.recipe.epochs for head in joint} == {6}  # the teachers'


def test_numbers_of_another_protocol_are_never_subtracted() -> None:
    comparable, elsewhere = published("modern"), published_elsewhere("modern")
    assert comparable["DKD", "resnet56/resnet20", "top1"].value == 71.97
    assert comparable["KD+LSKD", "resnet56/resnet20", "top1"].source
    assert comparable["Teacher", "resnet56/resnet20", "top1"].value == 72.34  # CRD's, as of most methods
    assert elsewhere["SSKD", "resnet56/resnet20"].teacher == "73.44"
    assert comparable["SDD on DKD", "vgg13/MobileNetV2", "top1"].value == 70.25
    assert elsewhere["SRRL", "resnet32x4/resnet8x4"].value == 75.39
    assert not {(row, pair) for row, pair, _ in comparable} & elsewhere.keys()
    assert elsewhere["ReviewKD", "resnet56/resnet20"].value == 71.89
    assert "Nesterov" in elsewhere["ReviewKD", "resnet56/resnet20"].protocol
    assert {row for row, _ in elsewhere} >= {"MLKD", "SimKD", "CAT-KD", "CTKD", "ReviewKD"}
    assert all(entry.source and entry.protocol for (_, pair), entry in elsewhere.items() if pair in PAIRS)

    rows = [frame_row(row, "resnet56/resnet20", 0, 72.0) for row in ("KD", "DKD", "ReviewKD")]
    frame = pd.DataFrame(rows)
    benchmark = BENCHMARKS["modern"]
    table = summary(frame, benchmark).set_index("row")
    assert table.loc["DKD", "best difference"] == pytest.approx(0.03)
    assert table.loc["ReviewKD", "best other protocol"] == 71.89
    assert math.isnan(table.loc["ReviewKD", "best difference"])
    text = markdown(table.reset_index(), benchmark)
    assert "best other protocol" in text
    assert any("ReviewKD, resnet56/resnet20 71.89" in note for note in notes(frame, benchmark, table.reset_index()))


def frame_row(row: str, pair: str, seed: int, top1: float) -> dict[str, object]:
    place = {"row": row, "column": pair, "pair": pair, "run_pair": pair, "seed": seed, "why": "", "state": "finished"}
    spec = {"role": "student", "dataset": "cifar100", "epochs": 240, "fraction": 1.0, "noise": 0.0}
    return place | spec | {"id": f"{row}-{pair}-{seed}", "weights": "", "best_top1": top1, "last_top1": top1}


def test_gains_over_kd_are_means_over_pairs_with_their_interval() -> None:
    values = {
        ("KD", "a"): [70, 72, 71],
        ("KD", "b"): [60, 61, 60],
        ("DKD", "a"): [71, 73.5, 72],
        ("DKD", "b"): [64, 65, 66],
    }
    values |= {("Teacher", "a"): [80], ("Student", "a"): [69], ("DKD+LSKD", "a"): [73, 74, 75]}
    frame = pd.DataFrame(
        [frame_row(row, column, seed, x) for (row, column), reached in values.items() for seed, x in enumerate(reached)]
    )
    table = gains(frame, BENCHMARKS["modern"]).set_index("row")
    assert table.loc["DKD", ["year", "gain", "seeds"]].tolist() == pytest.approx(
        [2022, (1 + 4 + 1.5 + 4 + 1 + 6) / 6, 3]
    )
    assert table.loc["DKD", "lower"] < table.loc["DKD", "gain"] < table.loc["DKD", "upper"]
    assert set(table.index) == {"DKD"}  # the others lack a pair
    assert gains_by_year(frame, BENCHMARKS["modern"]) is not None
    assert gains_by_year(frame[frame["row"] != "KD"], BENCHMARKS["modern"]) is None
    assert year_of("CTKD on DKD") == 2023
    assert year_of("DKD+LSKD") == 2024


def test_the_command_line_names_logit_standardisation() -> None:
    assert parse_method("dkd+lskd") == {"name": "dkd", "standardise": True}
    assert parse_method("crd+kd") == {"name": "crd", "kd_weight": 1.0}
    with pytest.raises(UserError, match="method 'crd.lskd': .*followed by '.kd'"):
        parse_method("crd+lskd")
