"""A search on embedded digits, killed half way, comes to the same end as one that was left alone."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.commands.main import main
from sskd.paths import ROOT

PROFILE = """
about: a search within half a minute
dataset: {name: digits16}
benchmarks: [comparison]
seeds: [0]
split: {fraction: 0.2}
recipe: {epochs: 3, batch_size: 16, crop_padding: 2, flip: false}
teacher_recipe: {epochs: 1, batch_size: 32, crop_padding: 2, flip: false}
head_recipe: {epochs: 1, batch_size: 32, milestones: [30, 45], full_epochs: 60, crop_padding: 2, flip: false}
pair: resnet8/resnet8
tuning: {epochs: 2}
"""


def words(profile: Path, results: Path) -> list[str]:
    options = ["--budget", "3", "--studies", "2", "--profile", str(profile), "--results", str(results)]
    return ["tune", "none,kd,sskd", *options]


def end(results: Path) -> dict[str, object]:
    """All studies without what the clock decides."""

    def timeless(value: object) -> object:
        if isinstance(value, dict):
            return {key: timeless(item) for key, item in value.items() if key != "seconds"}
        return [timeless(item) for item in value] if isinstance(value, list) else value

    files = sorted(results.rglob("study-*.json"))
    return {str(file.relative_to(results)): timeless(json.loads(file.read_text())) for file in files}


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_to_the_same_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "searched.yaml"
    profile.write_text(PROFILE)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(words(profile, whole)) == 0
    assert len(end(whole)) == 6
    page = (whole / "searched" / "index.html").read_text()
    assert 'id="tuning"' in page
    assert "Tuned under an equal budget" in capsys.readouterr().out

    log = tmp_path / "log.txt"
    with log.open("w") as file:
        command = [sys.executable, str(ROOT / "run_all.py"), *words(profile, killed)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        while len(list(killed.rglob("result.json"))) < 8:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        process.kill()
        process.wait()
    before = {path: path.read_bytes() for path in killed.rglob("result.json")}
    assert main(words(profile, killed)) == 0
    assert end(killed) == end(whole)
    assert all(path.read_bytes() == content for path, content in before.items())  # none was trained twice
