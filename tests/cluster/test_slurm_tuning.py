"""Tests ``run_all.py tune`` on a real Slurm with one node."""

from pathlib import Path

import pytest

from benchmarks.commands.main import main
from tests.cluster.slurm_site import missing
from tests.test_tuning_end_to_end import PROFILE, end


@pytest.mark.slurm
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.usefixtures("quiet")
def test_a_search_has_its_trials_in_jobs(tmp_path: Path) -> None:
    """It chooses, in two stages of jobs, what a search in this process chooses."""
    profile = tmp_path / "searched.yaml"
    profile.write_text(PROFILE)
    here, there = tmp_path / "here", tmp_path / "there"
    words = ["tune", "kd", "--budget", "2", "--studies", "1", "--profile", str(profile)]
    slurm = ["cluster.gpus_per_run=0", "cluster.cpus_per_run=1", "cluster.mem_gb=0.4", "cluster.time=30"]
    assert main([*words, "--results", str(here)]) == 0
    slurm = ["--cluster", "slurm", "--set", *slurm, "cluster.poll_seconds=0.5", "execution.threads=1"]
    assert main([*words, "--results", str(there), *slurm]) == 0
    assert list(end(there)) == ["searched/tuning/comparison/kd/study-0.json"]
    assert end(there) == end(here)
