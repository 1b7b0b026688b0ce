"""Published settings that differ from pair to pair: applied where the pair is known, shown in the spec, overridable."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sskd.methods import METHODS
from sskd.networks import NETWORKS
from sskd.paths import CONFIGS
from sskd.runs.settings import method_settings, published_settings
from sskd.runs.spec import RunSpec, parse_spec, spec_yaml

TABLES = sorted((CONFIGS / "pairs").glob("*.yaml"))


def spec(method: Any, teacher: str = "resnet56", student: str = "resnet20") -> RunSpec:
    digits = {"name": "digits"}
    run = {"role": "teacher", "network": teacher, "dataset": digits}
    data = {"role": "student", "network": student, "dataset": digits, "teacher": {"run": run}, "method": method}
    return parse_spec(data, "test")


def settings(method: Any, **pair: str) -> Any:
    return spec(method, **pair).method


def test_a_pair_has_its_own_weights() -> None:
    assert settings("dkd").nckd_weight == 2.0
    assert settings("dkd", teacher="vgg13", student="vgg8").nckd_weight == 6.0
    assert settings("dkd", teacher="resnet32", student="resnet20").nckd_weight == 8.0  # no published pair
    assert settings({"name": "dkd", "standardise": True}).nckd_weight == 36.0
    assert settings({"name": "kd", "standardise": True}, teacher="vgg13", student="vgg8").kd_temperature == 3.0
    assert settings({"name": "kd"}, teacher="vgg13", student="vgg8").kd_temperature == 4.0


def test_imagenets_pairs_have_the_settings_published_for_imagenet() -> None:
    pairs = (("resnet34", "resnet18"), ("resnet50", "mobilenet_v1"))

    def of_both(method: Any, *keys: str) -> list[tuple[Any, ...]]:
        found = [settings(method, teacher=teacher, student=student) for teacher, student in pairs]
        return [tuple(getattr(each, key) for key in keys) for each in found]

    assert of_both("rld", "masked_weight", "temperature") == [(0.5, 1.0), (2.0, 1.0)]
    assert of_both("wkdl", "weight", "sharpness", "distances_of") == [(30.0, 1.0, "logits"), (25.0, 2.0, "logits")]
    assert of_both("wkdf", "weight", "falls_from", "hidden") == [(0.02, 0.0, 256), (0.005, 30.0, 256)]
    assert of_both({"name": "kdpp", "host": "dkd"}, "kd_weight", "nckd_weight") == [(0.0, 0.5), (0.0, 1.0)]
    assert of_both({"name": "sdd", "host": "dkd"}, "nckd_weight", "grids") == [(0.5, (1, 2)), (2.0, (1, 2, 4))]
    assert of_both("ofd", "weight") == [(0.0001,)] * 2


def test_what_is_given_wins_even_if_it_is_the_usual_value() -> None:
    assert settings({"name": "dkd", "nckd_weight": 8.0}).nckd_weight == 8.0
    assert settings(method_settings("dkd", nckd_weight=8.0)).nckd_weight == 8.0
    assert settings(method_settings("dkd")).nckd_weight == 2.0


def test_the_spec_shows_them_and_a_written_spec_keeps_them() -> None:
    plain = spec("dkd")
    written = yaml.safe_load(spec_yaml(plain))
    assert written["method"]["nckd_weight"] == 2.0
    assert parse_spec(written, "test") == plain
    old = written | {"method": written["method"] | {"nckd_weight": 8.0}}
    del old["method"]["warmup_epochs"], old["method"]["standardise"]  # as specs were written before these existed
    kept: Any = parse_spec(old, "test").method
    assert kept.nckd_weight == 8.0


def test_settings_made_for_one_pair_are_made_anew_for_another() -> None:
    chosen = spec(method_settings("dkd", temperature=3.0)).method
    other = settings(chosen, teacher="vgg13", student="vgg8")
    assert (other.nckd_weight, other.temperature) == (6.0, 3.0)


@pytest.mark.parametrize("table", TABLES, ids=[path.stem for path in TABLES])
def test_tables_name_what_exists(table: Path) -> None:
    kind = METHODS[table.stem]
    pairs = yaml.safe_load(table.read_text())
    for pair, values in pairs.items():
        for network in pair.split("/"):
            NETWORKS[network]
        choices = values.get("when", {}).items()
        for given in [{}, *({setting: yaml.safe_load(choice)} for setting, wanted in choices for choice in wanted)]:
            found = published_settings({"name": table.stem, **given}, pair)
            kind.Settings.model_validate({"name": table.stem, **found, **given})
