"""Published weights in all their formats, and files that are not what they should be."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sskd.errors import UserError
from sskd.networks import Network, build_network
from sskd.weights import load_network

RELEASED = Path(__file__).resolve().parents[2] / "shared" / "weights"


@pytest.fixture
def network() -> Network:
    return build_network("resnet8", 10)


def same(first: Network, second: Network) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_every_format(network: Network, tmp_path: Path) -> None:
    state = network.state_dict()
    wrapped = {f"backbone.{key}": value for key, value in state.items()} | {"proj_head.0.weight": torch.zeros(2, 2)}
    formats: dict[str, Any] = {
        "bare": state,
        "sskd": {"state_dict": state, "epoch": 3, "acc": 0.5},
        "crd": {"model": state, "epoch": 3},
        "parallel": {"module." + key: value for key, value in state.items()},
        "wrapped": {"state_dict": wrapped},
    }
    for name, data in formats.items():
        for old in (False, True):
            path = tmp_path / f"{name}{old}.pth"
            torch.save(data, path, _use_new_zipfile_serialization=not old)
            assert same(load_network(path, "resnet8", 10), network), name
    save_file(state, tmp_path / "w.safetensors")
    assert same(load_network(tmp_path / "w.safetensors", "resnet8", 10), network)


def test_mobilenet_classifier_of_crd(tmp_path: Path) -> None:
    network = build_network("MobileNetV2", 10)
    state = {key.replace("classifier.", "classifier.0."): value for key, value in network.state_dict().items()}
    torch.save({"model": state}, tmp_path / "m.pth")
    assert same(load_network(tmp_path / "m.pth", "MobileNetV2", 10), network)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code from a file was executed",))


def test_no_code_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(UserError, match=name):
            load_network(tmp_path / name, "resnet8", 10)
    assert "executed" not in capsys.readouterr().out


def test_errors_name_the_file_and_the_trouble(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with pytest.raises(UserError, match=r"no weights file .*w\.pth"):
        load_network(path, "resnet8", 10)
    torch.save({"state_dict": network.state_dict()}, path)
    with pytest.raises(UserError, match="fits resnet8 with 10 classes"):
        load_network(path, "resnet20", 10)
    with pytest.raises(UserError, match="its classifier has 10 classes"):
        load_network(path, "resnet8", 100)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"w\.pth"):
            load_network(path, "resnet8", 10)
    (tmp_path / "w.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(UserError, match=r"w\.safetensors is damaged"):
        load_network(tmp_path / "w.safetensors", "resnet8", 10)


@pytest.mark.skipif(not RELEASED.exists(), reason="the released weights (../shared/weights) are not on this machine")
@pytest.mark.parametrize("name", ["resnet56", "resnet20", "wrn_16_2"])
def test_released_weights_load(name: str) -> None:
    network = load_network(RELEASED / f"{name}.pth", name, 100).eval()
    with torch.no_grad():
        assert torch.isfinite(network(torch.randn(2, 3, 32, 32))).all()
