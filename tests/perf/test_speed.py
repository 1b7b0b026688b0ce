"""Tests the output of `make perf`."""

from pathlib import Path

import pytest

from perf import training_speed


@pytest.mark.parametrize("stage", ["student", "head"])
def test_a_turn_says_where_its_time_goes(stage: str, tmp_path: Path) -> None:
    found = training_speed.time_round("resnet8/resnet8", stage, "ours fp32", 1, tmp_path)
    shares = found["shares"]
    assert found["images_per_second"] > 0
    assert found["peak_mb"] > 0
    assert 0.2 < shares.pop("within convolutions") < 1
    assert set(shares) == {"data", "teacher", *(["student", "loss"] if stage == "student" else ["head, loss"])}
    assert all(share >= 0 for share in shares.values())
