"""Published weights in all their formats, and files that are not what they should be."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sskd.errors import UserError
from sskd.networks import Network, build_network
from sskd.networks.weights import load_network
from sskd.runs.run_folder import RunFolder
from tests import small


@pytest.fixture
def network() -> Network:
    return build_network("resnet8", 10)


def same(first: Network, second: Network) -> bool:
    first_state, second_state = first.state_dict(), second.state_dict()
    return all(torch.equal(first_state[key], second_state[key]) for key in first_state)


@pytest.mark.parametrize("old", [False, True])
def test_both_formats_of_torch_and_files_that_are_cut_off(old: bool, network: Network, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": network.state_dict(), "epoch": 3}, path, _use_new_zipfile_serialization=not old)
    assert same(load_network(path, "resnet8", 10), network)
    whole = path.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        assert "w.pth" in refusal(path)
    assert "it is a folder" in refusal(tmp_path)
    assert "no weights file" in refusal(tmp_path / "absent.pth")


def test_mobilenet_classifier_of_crd(tmp_path: Path) -> None:
    network = build_network("MobileNetV2", 10)
    state = {key.replace("classifier.", "classifier.0."): value for key, value in network.state_dict().items()}
    torch.save({"model": state}, tmp_path / "m.pth")
    assert same(load_network(tmp_path / "m.pth", "MobileNetV2", 10), network)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code from a file was executed",))


def test_no_code_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, tmp_path / "torch.pth")
    for name in ("pickle.pth", "torch.pth"):
        assert name in refusal(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def broken_states(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Returns contents of weights files that are not the weights of a network, by their error."""
    first, variance = "conv1.weight", "bn1.running_var"
    weight, ones = state[first], torch.ones_like(state[variance])
    values: dict[str, Any] = {
        "sparse": weight.to_sparse(),
        "meta": weight.to("meta"),
        "quantised": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "a scalar": torch.tensor(1.0),
        "empty": torch.empty(0),
        "a huge weight of one value": torch.zeros(1).expand(10**12),
        "an infinite double": weight.double() * 1e300,
        "a list": [1.0],
        **{f"{dtype}": weight.to(dtype) for dtype in (torch.int8, torch.int64, torch.bool, torch.complex64)},
    }
    broken = {what: {**state, first: value} for what, value in values.items()}
    broken |= {"nothing": {}, "text": "weights", "no dict": weight, "numbers": dict.fromkeys(state, 1.0)}
    broken["keys that are numbers"] = dict(enumerate(state.values()))
    broken["state_dict of a list"] = {"state_dict": [weight]}
    broken["a huge view of one value"] = {**state, "fc.bias": torch.zeros(1).expand(10**12)}
    broken["a missing key"] = {key: value for key, value in state.items() if key != first}
    broken["a key too many"] = {**state, "another": weight}
    broken["a negative variance"] = {**state, variance: -ones}
    for number in (float("nan"), float("inf"), -float("inf")):
        broken[f"{number} in a weight"] = {**state, first: weight.index_fill(0, torch.tensor([0]), number)}
        broken[f"{number} in a variance"] = {**state, variance: ones * number}
        broken[f"{number} in half"] = {**state, first: (weight * number).half()}
    return broken


def refusal(path: Path) -> str:
    """Returns the error message for weights that are rejected; "" if they are accepted."""
    try:
        load_network(path, "resnet8", 10)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_no_broken_weights_are_taken(network: Network, tmp_path: Path) -> None:
    """Nor do any of them end in anything but one line."""
    for what, data in broken_states(network.state_dict()).items():
        torch.save(data, tmp_path / "w.pth")
        said = refusal(tmp_path / "w.pth")
        assert "w.pth" in said, f"{what}: {said or 'taken'}"
        assert "\n" not in said


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("ending", ["pth", "safetensors", "old"])
def test_damaged_files_of_weights_are_one_line(network: Network, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w.{'pth' if ending == 'old' else ending}"
    if ending == "safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=ending == "pth")
    whole, random = path.read_bytes(), np.random.RandomState(0)
    for _ in range(40):  # bytes of the first kilobyte, where the structure is, and of the end, where a zip's index is
        damaged = bytearray(whole)
        for place in (*random.randint(0, 1000, 3), *random.randint(len(whole) - 1000, len(whole), 3)):
            damaged[place] = random.randint(256)
        path.write_bytes(damaged)
        assert "\n" not in refusal(path)  # "": a byte of a number was changed, or of nothing of importance


def test_a_header_that_claims_more_than_memory_holds(tmp_path: Path) -> None:
    header = b'{"conv1.weight":{"dtype":"F32","shape":[75000000000000],"data_offsets":[0,300000000000000]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match="damaged"):
        load_network(tmp_path / "w.safetensors", "resnet8", 10)


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    """The library's own order of metadata differs from call to call, so some of eight files would differ."""
    folder = RunFolder(tmp_path, small.spec(small.teacher()))
    folder.create()
    tensors = {"b.bias": torch.arange(3.0), "a.weight": torch.ones(2, 2)}
    made = set()
    for _ in range(8):
        folder.write_weights("best", folder.weights_file(tensors, 3))
        made.add(folder.weights("best").read_bytes())
    assert len(made) == 1
    assert all(torch.equal(value, tensors[key]) for key, value in load_file(folder.weights("best")).items())
    with safe_open(folder.weights("best"), "pt") as file:
        assert file.metadata() == {"epoch": "3", "run": folder.spec.id}
