"""The table of newer methods: its cells, whose numbers stand beside them, and its figure."""

import math

import pytest

from benchmarks.analysis.published import published, published_elsewhere
from benchmarks.planning.plan import make_plan
from benchmarks.profiles.read import parse_method, read_profile
from benchmarks.report.gains import gains, gains_by_year, year_of
from benchmarks.report.tables import summary
from benchmarks.tables.benchmark import BENCHMARKS
from benchmarks.tables.modern import PAIRS
from benchmarks.tables.spec_builder import SpecBuilder
from sskd.errors import UserError
from sskd.methods import METHODS
from sskd.runs.spec import StudentSpec
from tests.benchmarks.made import made_frame

ONE = ["seeds=[0]"]


def test_every_method_on_every_pair_that_it_can_be_used_with() -> None:
    cells = BENCHMARKS["modern"].cells(SpecBuilder(read_profile("paper", ONE)))
    rows = {cell.row for cell in cells}
    titles = {METHODS[name].info.title for name in METHODS if METHODS[name].info.year}
    hosted = {"HSAKD*", "SDD on DKD", "SDD on NKD", "NormKD on DKD", "KD++ on DKD", "DOT on CRD"}
    hosted |= {f"{name}+LSKD" for name in ("KD", "DKD", "MLKD", "CTKD")}
    plain = {"Teacher", "Student"}
    assert titles | hosted | plain == rows
    there = {(cell.row, cell.column) for cell in cells}
    absent = {(row, pair) for row in rows for pair in PAIRS} - there
    assert {row for row, _ in absent} == {"FSP"}
    make_plan(cell.spec for cell in cells)  # refuses nothing
    methods = {(cell.row, cell.column): cell.spec.method.model_dump() for cell in cells if cell.row not in plain}
    assert methods["DKD+LSKD", "resnet56/resnet20"]["nckd_weight"] == 36.0  # the pair's published settings
    assert methods["SDD on NKD", "ResNet50/vgg8"]["grids"] == (1, 2)


def test_smoke_stands_small_pairs_in_and_short_heads() -> None:
    cells = BENCHMARKS["modern"].cells(SpecBuilder(read_profile("smoke", ONE)))
    heads = {cell.spec.head for cell in cells if isinstance(cell.spec, StudentSpec) and cell.spec.head}
    assert {head.pretext.name for head in heads} == {"contrastive", "hsakd"}
    joint = {head for head in heads if getattr(head.pretext, "joint", False)}
    assert all(head.recipe.epochs <= 3 for head in heads - joint)
    assert {head.recipe.epochs for head in joint} == {6}  # the teachers'


def test_numbers_of_another_protocol_are_never_subtracted() -> None:
    comparable, elsewhere = published("modern"), published_elsewhere("modern")
    assert comparable["DKD", "resnet56/resnet20", "top1"] == 71.97
    assert comparable["Teacher", "resnet56/resnet20", "top1"] == 72.34  # CRD's, as of most methods
    assert elsewhere["SSKD", "resnet56/resnet20"].teacher == "73.44"
    assert not {(row, pair) for row, pair, _ in comparable} & elsewhere.keys()
    assert "Nesterov" in elsewhere["ReviewKD", "resnet56/resnet20"].protocol
    assert all(entry.source and entry.protocol for (_, pair), entry in elsewhere.items() if pair in PAIRS)
    frame = made_frame("modern", {(row, "resnet56/resnet20"): [72.0] for row in ("KD", "DKD", "ReviewKD")})
    table = summary(frame, BENCHMARKS["modern"]).set_index("row")
    assert table.loc["DKD", "best difference"] == pytest.approx(0.03)
    assert table.loc["ReviewKD", "best other protocol"] == 71.89
    assert math.isnan(table.loc["ReviewKD", "best difference"])


def test_gains_over_kd_are_means_over_pairs_with_their_interval() -> None:
    values = {
        ("KD", "a"): [70, 72, 71],
        ("KD", "b"): [60, 61, 60],
        ("DKD", "a"): [71, 73.5, 72],
        ("DKD", "b"): [64, 65, 66],
        ("Teacher", "a"): [80],
        ("Student", "a"): [69],
        ("DKD+LSKD", "a"): [73, 74, 75],
    }
    frame = made_frame("modern", {cell: list(map(float, reached)) for cell, reached in values.items()})
    table = gains(frame, BENCHMARKS["modern"]).set_index("row")
    found = table.loc["DKD", ["year", "gain", "seeds"]].tolist()
    assert found == pytest.approx([2022, (1 + 4 + 1.5 + 4 + 1 + 6) / 6, 3])
    assert table.loc["DKD", "lower"] < table.loc["DKD", "gain"] < table.loc["DKD", "upper"]
    assert set(table.index) == {"DKD"}  # the others lack a pair
    assert gains_by_year(frame, BENCHMARKS["modern"]) is not None
    assert gains_by_year(frame[frame["row"] != "KD"], BENCHMARKS["modern"]) is None
    assert [year_of(row) for row in ("CTKD on DKD", "DKD+LSKD")] == [2023, 2024]


def test_the_command_line_names_logit_standardisation() -> None:
    assert parse_method("dkd+lskd") == {"name": "dkd", "standardise": True}
    assert parse_method("crd+kd") == {"name": "crd", "kd_weight": 1.0}
    with pytest.raises(UserError, match="method 'crd.lskd': .*followed by '.kd'"):
        parse_method("crd+lskd")
