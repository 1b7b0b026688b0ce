"""Tests the output of `make perf`."""

from pathlib import Path

import pytest

from perf import training_speed


@pytest.mark.parametrize(("stage", "variant"), [("student", "ours fp32"), ("head", "ours fp32"), ("head", "baseline")])
def test_a_round_has_a_rate_and_its_share_of_convolutions(stage: str, variant: str, tmp_path: Path) -> None:
    found = training_speed.time_round("resnet8/resnet8", stage, variant, 1, tmp_path)
    assert found["images_per_second"] > 0
    assert found["peak_mb"] > 0
    assert 0.05 < found["within_convolutions"] < 1
