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
