"""Released weights: the catalogue, where they are found, and what is not them."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.profiles import teachers
from benchmarks.profiles.read import read_profile
from sskd.config.execution import Execution
from sskd.config.pretrained import FromFile
from sskd.config.recipe import DatasetSpec
from sskd.errors import UserError
from sskd.networks import build_network


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An address on loopback with two files: net.pth, the weights of a resnet8, and other.pth, which are others."""
    (tmp_path / "there").mkdir()
    for number, name in enumerate(("net", "other")):
        torch.manual_seed(number)
        torch.save({"model": build_network("resnet8", 10).state_dict()}, tmp_path / "there" / f"{name}.pth")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "there"))) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.fixture
def catalogued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Path:
    """A catalogue with the server's weights, by hash and without one; the folder of released files, still empty."""
    digest = hashlib.sha256((tmp_path / "there" / "net.pth").read_bytes()).hexdigest()
    release = {"dataset": "digits", "page": "a page", "used_by": "nobody", "format": "a state dict"}
    networks = {
        "hashed": {"resnet8": {"sha256": digest, "url": f"{server}/net.pth"}},
        "wrong": {"resnet8": {"sha256": digest, "url": f"{server}/other.pth"}},
        "plain": {"resnet8": {"published": 9.0, "file": "deep/ckpt.pth", "url": f"{server}/net.pth"}},
        "gone": {"resnet8": {"url": f"{server}/nothing.pth"}},
        "nowhere": {"resnet8": {}},
    }
    content = {name: release | {"networks": entries} for name, entries in networks.items()}
    (tmp_path / "teachers.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(teachers, "CATALOGUE", tmp_path / "teachers.yaml")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (folder := tmp_path / "released").mkdir()
    return folder


def found(*settings: str) -> FromFile:
    entry = read_profile("demo", ["dataset.name=digits", *settings]).teachers["resnet8"]
    assert isinstance(entry, FromFile)
    return entry


def test_what_has_an_address_is_fetched_once_and_kept(catalogued: Path, tmp_path: Path) -> None:
    given = found("teachers.resnet8.weights=hashed:resnet8")
    assert Path(given.weights).is_relative_to(tmp_path / "torch")
    assert given.sha256 == hashlib.sha256((tmp_path / "there" / "net.pth").read_bytes()).hexdigest()
    (tmp_path / "there" / "net.pth").unlink()
    assert found("teachers.resnet8.weights=hashed:resnet8") == given
    Path(given.weights).write_bytes(b"damaged")
    with pytest.raises(UserError, match="is not hashed:resnet8: its sha256 is"):
        found("teachers.resnet8.weights=hashed:resnet8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong:resnet8", "could not be downloaded .*hash.*: download it from a page, .* --set teachers.folder=DIR"),
        ("gone:resnet8", "could not be downloaded .*404"),
        ("nowhere:resnet8", "not here: download it from a page"),
        ("plain:resnet80", "unknown released weights 'plain:resnet80'; did you mean 'plain:resnet8'"),
    ],
)
def test_what_is_not_the_released_file_is_refused(catalogued: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(f"teachers.resnet8.weights={name}")


def test_a_folder_is_looked_through_by_hash_and_by_name(catalogued: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        found(f"teachers.folder={tmp_path / 'no'}")
    assert read_profile("demo", ["dataset.name=digits", f"teachers.folder={catalogued}"]).teachers == {}
    (named := tmp_path / "named" / "deep").mkdir(parents=True)
    (tmp_path / "there" / "other.pth").rename(named / "ckpt.pth")
    assert found(f"teachers.folder={named.parent}").weights == str(named / "ckpt.pth")
    (tmp_path / "there" / "net.pth").rename(catalogued / "any.pth")
    by_hash = found(f"teachers.folder={catalogued}")
    assert by_hash.weights == str(catalogued / "any.pth")
    lost = f"teachers.resnet8={{weights: lost.pth, sha256: {by_hash.sha256}}}"
    assert found(lost, f"teachers.folder={catalogued}").weights == str(catalogued / "any.pth")


def test_without_a_hash_the_accuracy_is_checked_once(catalogued: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = found("teachers.resnet8.weights=plain:resnet8")

    def checked(weights: FromFile, top1: float) -> str:
        monkeypatch.setattr(teachers, "accuracy", lambda network, test: {"top1": top1})
        return teachers.check_accuracy(weights, DatasetSpec(name="digits"), Execution())

    assert "plain:resnet8: 9.20 % top-1, as published" in checked(given, 9.2)
    assert checked(given, 9.2) == ""
    Path(f"{given.weights}.json").unlink()
    with pytest.raises(UserError, match="is not plain:resnet8: its top-1 accuracy is 50.00 %, expected .* 9.00 %"):
        checked(given, 50.0)
    assert checked(given.model_copy(update={"weights": "my/own.pth"}), 50.0) == ""


def test_the_shipped_catalogue_is_known() -> None:
    rows = {row["name"]: row for row in teachers.rows()}
    assert rows["sskd:resnet20"]["top1"] == {"published": 69.63, "measured": 69.63}
    assert rows["crd:resnet32x4"]["weights"].endswith("/resnet32x4_vanilla/ckpt_epoch_240.pth")
