"""A trained network taken home: weights, config and card, loaded elsewhere with the same numbers."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from sskd import load_exported
from sskd.__main__ import main
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError
from sskd.export.folder import export_run
from sskd.runs.plugins import load_plugin
from sskd.runs.trained import load_student
from tests import small
from tests.test_trained import OWN, forget

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of KD, and one of SimKD, which predicts with more than its student."""
    folder = tmp_path_factory.mktemp("runs")
    small.train_all(small.spec(small.student("kd")), folder)
    small.train_all(small.spec(small.student("simkd")), folder)
    return folder


def run_of(runs: Path, method: str) -> Path:
    return next(runs.glob(f"student-resnet8-{method}-digits-s0-*"))


def front_matter(folder: Path) -> dict[str, object]:
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    return dict(yaml.safe_load(front))


@pytest.mark.parametrize(("method", "epoch"), [("kd", "last"), ("kd", "best"), ("simkd", "last")])
def test_the_exported_network_has_the_accuracy_that_its_card_names(
    runs: Path, tmp_path: Path, method: str, epoch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(runs, method)
    assert main(["export", str(run), "--to", str(tmp_path / "mine"), "--epoch", epoch, "--licence", "mit"]) == 0
    assert run.name in capsys.readouterr().out
    net, info = load_exported(tmp_path / "mine")
    assert not net.training
    spec = small.spec(small.student(method))
    data = load_dataset(spec.dataset, Path("data"))
    with torch.inference_mode():
        right = net(info.normalise(data.test_images)).argmax(1) == data.test_labels
    top1 = 100 * right.float().mean().item()
    assert top1 == pytest.approx(json.loads((run / "result.json").read_text())[epoch]["test_top1"], abs=0.01)
    front = front_matter(tmp_path / "mine")
    assert front["license"] == "mit"
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(top1 / 100, abs=1e-5)  # type: ignore[index]
    ours, _ = load_student(run, epoch)  # type: ignore[arg-type]
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(images), ours(images))


def test_the_card_says_what_it_learned_from(runs: Path, tmp_path: Path) -> None:
    run = run_of(runs, "kd")
    assert main(["export", str(run), "--to", str(tmp_path / "mine"), "--license", "mit"]) == 0
    text = (tmp_path / "mine" / "README.md").read_text()
    result, teacher = (json.loads((f / "result.json").read_text()) for f in (run, next(runs.glob("teacher-*"))))
    for told in (
        f"| last epoch (these weights) | {result['last']['test_top1']:.2f} |",
        f"| best epoch | {result['best']['test_top1']:.2f} |",
        f"top-1 {teacher['best']['test_top1']:.2f} % on the same test images",
        "Hinton",
        "70 training images of digits (5% of every class)",
    ):
        assert told in text
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub reads the card as the hub does")
    card = hub.ModelCard.load(tmp_path / "mine" / "README.md").data
    assert (card.license, card.library_name, card.pipeline_tag) == ("mit", "sskd", "image-classification")
    (read,) = card.eval_results
    assert (read.dataset_name, read.metric_type) == ("digits", "accuracy")
    assert 0 < read.metric_value < 1


def test_the_cards_lines_run_elsewhere(runs: Path, tmp_path: Path) -> None:
    assert main(["export", str(run_of(runs, "simkd")), "--to", str(tmp_path / "mine")]) == 0
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "No licence was given" in card
    lines = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    assert len(lines.splitlines()) == 3
    images = "import torch\nimages = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)\n"
    script = f"{images}{lines}print(tuple(logits.shape), info.class_names[:2])\n"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.stdout == "(2, 10) ('0', '1')\n", done.stderr


@pytest.mark.skipif(not ONNX, reason="the extra onnx is not installed")
@pytest.mark.slow
def test_onnx_gives_torchs_logits_for_any_batch(runs: Path, tmp_path: Path) -> None:
    import onnxruntime

    assert main(["export", str(run_of(runs, "simkd")), "--to", str(tmp_path / "mine"), "--onnx"]) == 0
    names = {"model.safetensors", "config.json", "README.md", "model.onnx"}
    assert {path.name for path in (tmp_path / "mine").iterdir()} == names
    assert "onnx" in front_matter(tmp_path / "mine")["tags"]  # type: ignore[operator]
    session = onnxruntime.InferenceSession(str(tmp_path / "mine" / "model.onnx"))
    net, _ = load_exported(tmp_path / "mine")
    for size in (1, 2, 7, 64):
        images = torch.randn(size, 3, 32, 32)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        assert torch.allclose(torch.from_numpy(logits), net(images), atol=1e-4, rtol=0)
    # exported again without it: the old one would be of other weights
    assert main(["export", str(run_of(runs, "simkd")), "--to", str(tmp_path / "mine")]) == 0
    assert not (tmp_path / "mine" / "model.onnx").exists()


@pytest.mark.skipif(not ONNX, reason="the extra onnx is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ShuffleV1", "MobileNetV2", "vgg8"])
def test_every_family_of_networks_as_onnx(name: str, tmp_path: Path) -> None:
    from sskd.export.onnx import write_onnx
    from sskd.networks import build_network

    assert write_onnx(build_network(name, 10).eval(), 32, tmp_path / "net.onnx") <= 1e-4


@pytest.mark.skipif(not ONNX, reason="the extra onnx is not installed")
@pytest.mark.slow
def test_onnx_that_computes_something_else_is_refused(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sskd.export.onnx.TOLERANCE", 0.0)
    assert main(["export", str(run_of(runs, "kd")), "--to", str(tmp_path / "mine"), "--onnx"]) == 2
    assert "ONNX Runtime's logits differ from torch's by" in capsys.readouterr().err
    assert not any((tmp_path / "mine").iterdir())


def test_without_the_extra_the_line_that_installs_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sskd.export.onnx.NEEDED", ("onnx_that_is_not_there",))
    assert main(["export", str(run_of(runs, "kd")), "--to", str(tmp_path / "mine"), "--onnx"]) == 2
    assert "--onnx needs onnx_that_is_not_there: pip install onnx_that_is_not_there" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_what_cannot_be_exported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(run: Path, to: Path = tmp_path / "mine") -> str:
        assert main(["export", str(run), "--to", str(to)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "there is no run folder" in refused(tmp_path / "nowhere")
    assert "not a run folder: it has no spec.yaml" in refused(tmp_path)
    head = small.spec(small.head())
    small.train_all(head, runs)
    assert "is a head" in refused(runs / head.id)
    run = tmp_path / run_of(runs, "kd").name
    run.mkdir()
    for name in ("spec.yaml", "network.json"):
        (run / name).write_bytes((run_of(runs, "kd") / name).read_bytes())
    assert "is not finished" in refused(run)
    (run / "result.json").write_text("[]")
    assert "is not the result of a run" in refused(run)
    (run / "result.json").write_bytes((run_of(runs, "kd") / "result.json").read_bytes())
    assert "no weights file" in refused(run)
    (run / "last.safetensors").write_bytes(b"nothing")
    assert "last.safetensors is a text file" in refused(run)
    assert not (tmp_path / "mine").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    assert "has files that are not an earlier export" in refused(run_of(runs, "kd"), full)
    assert "is not a folder" in refused(run_of(runs, "kd"), full / "thesis.tex")
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]


READMES = {
    "none": (None, "unknown"),
    "the hub's": ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
    "an empty one": ("\n", "unknown"),
    "an earlier card": ("---\nlicense: mit\nlibrary_name: sskd\n---\n\n# resnet8\n", "mit"),
    "somebody's": ("---\nlicense: mit\n---\n\n# My thesis\n", None),
    "somebody's without front matter": ("# My thesis\n", None),
    "front matter that is no YAML": ("---\n[\n---\n", None),
}


@pytest.mark.parametrize("case", READMES)
def test_a_clone_of_the_hubs_repository_is_a_folder_to_export_to(case: str, runs: Path, tmp_path: Path) -> None:
    clone, (readme, licence) = tmp_path / "clone", READMES[case]
    theirs = {".git/HEAD": "ref: refs/heads/main\n", ".gitattributes": "*.safetensors filter=lfs\n", "LICENSE": "free"}
    for name, text in theirs.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)
    if readme is not None:
        (clone / "README.md").write_text(readme)
    for _ in range(2):  # the second time it is an earlier export's too
        said = export_run(run_of(runs, "kd"), clone)
        assert {name: (clone / name).read_text() for name in theirs} == theirs
        if licence is None:
            assert (clone / "README.md").read_text() == readme
            assert "MODEL_CARD.md" in said
            assert "load_exported" in (clone / "MODEL_CARD.md").read_text()
        else:
            assert front_matter(clone)["license"] == licence
            assert not (clone / "MODEL_CARD.md").exists()
    load_exported(clone)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.onnx"])
def test_a_clone_of_another_models_repository_is_left_alone(name: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: ../.git/worktrees/model\n")  # a worktree's is a file
    (tmp_path / name).write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=f"a git clone with a {name} that is not from an earlier export"):
        export_run(run_of(runs, "kd"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".git", name}


def test_folders_that_are_no_export(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an exported network"):
        load_exported(tmp_path)
    for text, words in (
        ("{", "is damaged"),
        ("[]", "does not describe"),
        ('{"model_type": "bert"}', "does not describe"),
        ('{"library_name": "sskd", "format": 99}', "format 99"),
        ('{"library_name": "sskd", "format": 1}', "network"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=words):
            load_exported(tmp_path)
    assert main(["export", str(run_of(runs, "kd")), "--to", str(tmp_path / "mine")]) == 0
    (tmp_path / "mine" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights file"):
        load_exported(tmp_path / "mine")


def test_ones_own_network_travels_with_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(OWN)
    load_plugin(plugin)
    spec = small.spec(small.student("own_alone", network="own_flat", teacher=None))
    small.train_all(spec, tmp_path / "runs")
    export = ["export", str(tmp_path / "runs" / spec.id), "--to", str(tmp_path / "mine")]
    assert main([*export, "--plugin", str(plugin)]) == 0
    assert 'plugins=["mine/own.py"]' in (tmp_path / "mine" / "README.md").read_text()
    forget()
    assert main(export) == 2  # a file that a folder names is not executed
    error = capsys.readouterr().err
    assert "unknown method 'own_alone'" in error
    assert f"{plugin}: give it with --plugin" in error
    assert error.count("\n") == 1
    with pytest.raises(UserError, match="unknown network 'own_flat'"):
        load_exported(tmp_path / "mine")
    net, info = load_exported(tmp_path / "mine", plugins=[tmp_path / "mine" / "own.py"])
    assert net(info.normalise(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))).shape == (2, 10)
