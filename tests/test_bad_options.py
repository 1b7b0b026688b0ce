"""Options that cannot be: one line that says what is wrong, exit status 2, before anything is trained."""

import os
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarks.commands.main import main as suite
from sskd.__main__ import main as trainer
from sskd.data.sort_val import main as sort_val
from sskd.runs.spec import spec_yaml
from tests import small
from tests.cluster.suite import TINY

PROGRAMS = {"run_all": suite, "sskd": trainer, "sort_val": sort_val}
LONG = "a" * 300
CASES = [
    # names of things that do not exist
    ("run_all --cancel --dry-run", "use the verb, run_all.py cancel"),
    ("run_all --profile smoke --dry-run", "use the verb, run_all.py plan"),
    ("run_all plan --profile smok", "unknown profile 'smok'; did you mean 'smoke'?"),
    ("run_all plan --profile none.yaml", "no such file: none.yaml"),
    ("run_all plan --methods kd,crdd", "unknown method 'crdd'; did you mean 'crd'?"),
    ("run_all plan --methods crd+at", "followed by '+kd'"),
    ("run_all plan --only comparisn", "unknown benchmark 'comparisn'; did you mean 'comparison'?"),
    ("run_all plan --only ,", "unknown benchmark ''"),
    ("run_all plan --set dataset.name=digit", "unknown dataset 'digit'; did you mean 'digits'?"),
    ("run_all plan --set pair=resnet9/resnet8", "unknown network 'resnet9'"),
    ("run_all plan --set learning_rates.resnet9=0.1", "unknown network 'resnet9'"),
    ("run_all plan --set teachers.resnet57.weights=a.pth", "unknown network 'resnet57'; did you mean 'resnet56'"),
    ("run_all plan --set preset=paper_txt", "unknown preset 'paper_txt'; did you mean 'paper_text'"),
    ("run_all plan --set pretext_settings.exemplr.transformation=paper", "unknown pretext 'exemplr'"),
    ("run_all plan --set 'pretext={name: contrastive, transformation: papers}'", "did you mean 'paper'?"),
    ("run_all plan --cluster slrum", "unknown cluster 'slrum'; did you mean 'slurm'?"),
    ("run_all plan --cluster mine.yaml", "no such file: mine.yaml"),
    (f"run_all plan --cluster {LONG}", "unknown cluster"),
    (f"run_all plan --plugin {LONG}", "plugin aaa"),
    ("run_all status no-such-request", "there is no request no-such-request"),
    ("run_all plan --set 'dataset={name: npz, path: nowhere.npz}'", "there is no nowhere.npz"),
    ("run_all plan --set 'teachers={resnet8: {network: resnet8, weights: nowhere.pth}}'", "teachers.resnet8.weights="),
    # keys and values
    ("run_all plan --set recipe.epoch=3", "recipe: unknown key 'epoch'; did you mean 'epochs'?"),
    ("run_all plan --set pretext_settings.exemplar.transform=paper", "did you mean 'transformation'?"),
    ("run_all plan --set pair=resnet20", "'resnet20' is not a pair"),
    ("run_all plan --set name=../../evil", "must not contain slashes"),
    ("run_all plan --set method_settings.sskd=5", "valid dictionary, found 5"),
    ("run_all plan --set teachers.resnet56=a.pth", "teachers.resnet56: Input should be a valid dictionary"),
    ("run_all plan --set teachers.resnet56.sha256=00", "teachers.resnet56.weights: Field required"),
    ("run_all plan --set 'noise_rates=[0.3, 0.3]'", "0.3 is named twice"),
    ("run_all plan --set 'methods=[{name: [kd]}]'", "the name of a method must be a string"),
    ("run_all plan --set 'methods=[sskd, {name: sskd, ss_weight: 5.0}]'", "give one a label"),
    ("run_all plan --set learning_rates.resnet8=-5", "greater than 0, found -5"),
    ("run_all plan --set recipe=" + "[" * 3000, "nested more than 60 deep"),
    ("run_all plan --set head_recipe.batch_size=500", "use a smaller batch"),
    (
        "run_all plan --set 'overrides={comparison: {recipe: {batch_size: 2, processes: 2}}}'",
        "too small for 2",
    ),
    ("run_all plan --methods fsp --set pair=resnet32x4/resnet8", "needs equal numbers of channels"),
    ("run_all plan --methods kd,kd", "'kd' is named twice"),
    ("run_all plan --only comparison,table2 --methods kd", "does not apply to table2"),
    ("run_all plan --only fig3b --methods sskd", "does not apply to fig3b"),
    ("run_all plan --only table6 --methods nkd", "table6 has no row of NKD"),
    ("run_all plan --only table6 --methods crd+kd", "table6 has no row of CRD+KD"),
    ("run_all plan --seeds a", "seeds.0: Input should be a valid integer"),
    ("run_all plan --seeds 0,0", "0 is named twice"),
    ("run_all plan --seeds '1]; [2'", "is not valid YAML"),
    ("run_all plan --cluster local --set cluster.run_at_once=2", "did you mean 'runs_at_once'?"),
    ("run_all plan --cluster local --set cluster.runs_at_once=0", "greater than 0, found 0"),
    ("run_all plan --cluster inline --set cluster.partition=gpu", "unknown key 'partition'"),
    ("run_all plan --cluster slurm --set cluster.runs_per_gpu=2", "--cluster slurm_node"),
    ("run_all run --cluster slurm", "there is no sbatch on the PATH"),
    ("run_all run --cluster local --set cluster.gpus_per_run=64", "exceeds the number of GPUs"),
    ("run_all run --notify ' '", "--notify: expected a shell command"),
    ("sskd train spec.yaml --threads 99999999999", "less than or equal to 1024"),
    ("sskd train spec.yaml --processes 99999999999", "less than or equal to 1024"),
    ("sskd train spec.yaml --device meta", "'meta' cannot be used here"),
    ("sskd train spec.yaml --device cpu:3:4", "'cpu:3:4' cannot be used here"),
    # places that cannot be
    *((f"run_all run --results {place}", f" {place}/") for place in ("/proc/x", "file", "file/x", LONG)),
    ("run_all run --detach --results /proc/x", "cannot write results in /proc/x"),
    ("run_all cancel --profile tiny.yaml --results /proc/x", "there are no results in /proc/x"),
    ("run_all report --profile tiny.yaml --results file", "file/tiny/runs: nothing to report"),
    # mistyped options, and options that do not belong together
    ("run_all stauts", "did you mean 'status'?"),
    ("run_all --detac", "did you mean '--detach'?"),  # no abbreviation: it would be started again in the background
    ("run_all --profil=demo", "did you mean '--profile'?"),
    ("run_all list method", "did you mean 'methods'?"),
    ("run_all --set a=b --dataset_root x", "unrecognized arguments"),
    ("sskd evalute", "did you mean 'evaluate'?"),
    ("sskd evaluate --precision bf61", "did you mean 'bf16'?"),
    ("sskd train spec.yaml --process 2", "did you mean '--processes'?"),
    ("sort_val folder --devkits x", "did you mean '--devkit'?"),
    ("run_all watch --json", "--json"),
    ("run_all status --notify true", "--notify"),
    ("run_all explain recipe --notify true", "--notify"),
    ("run_all plan --detach", "--detach"),
    ("run_all run --onnx", "--onnx"),
    ("run_all status demo --methods kd", "remove --methods"),
    ("run_all cancel --all --only table3", "--only"),
    ("run_all status --all demo", "demo"),
]


@pytest.mark.parametrize(("command", "words"), CASES, ids=[command[:50] for command, _ in CASES])
def test_one_line_and_status_2(
    command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    Path("spec.yaml").write_text(spec_yaml(small.spec(small.teacher())))
    Path("file").touch()
    program, *options = shlex.split(command)
    if options[0] in ("plan", "run") and "--profile" not in options:
        options += ["--profile", "tiny.yaml"]
    try:
        status: object = PROGRAMS[program](options)
    except SystemExit as end:
        status = end.code
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert words in line
    assert not list(tmp_path.rglob("log.txt"))
    assert not list(tmp_path.parent.glob("evil*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_that_may_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "results").mkdir(mode=0o500)
    assert suite(["--profile", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]) == 2
    assert "cannot write results in" in capsys.readouterr().err
