"""Checkpoints as training scripts of the field save them, and what people have in place of one."""

import argparse
import copy
import io
import json
import os
import pathlib
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sskd.__main__ import main
from sskd.config.networks import NetworkSettings
from sskd.config.pretrained import FromFile
from sskd.errors import UserError
from sskd.networks import Network, build_network
from sskd.networks.hooked import HookedNetwork
from sskd.networks.weights import load_into, load_network
from tests import small

State = dict[str, Tensor]


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network("resnet8", 10)


STATE: State = network().state_dict()
AVERAGE: State = network(1).state_dict()


def under(prefix: str, state: State = STATE) -> State:
    return {prefix + key: value for key, value in state.items()}


def nested(state: State) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in state.items():
        *way, last = key.split(".")
        inner = found
        for part in way:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


def optimizer() -> dict[str, Any]:
    """Returns an optimiser's state, whose keys are numbers."""
    made = torch.optim.SGD(network().parameters(), 0.1, momentum=0.9)
    made.param_groups[0]["params"][0].grad = torch.ones_like(STATE["conv1.weight"])
    made.step()
    return made.state_dict()


class Unknown:
    def __init__(self) -> None:
        self.learning_rate = 0.1


BESIDE = {
    "of an unknown class": Unknown(),
    "a function": network,
    "opt": argparse.Namespace(model="resnet8", learning_rate=np.float32(0.05), out=pathlib.PurePosixPath("a/b")),
    "best_acc": np.float64(69.1),
    "epoch": np.int64(3),
    "where": pathlib.Path("results"),
    "on_windows": pathlib.PureWindowsPath("C:/results"),
    "curve": np.arange(3.0),
    "seen": defaultdict(list, {"a": [1]}),
    "generator": torch.get_rng_state(),
}
GIVEN: dict[str, Callable[[], Any]] = {
    "a namespace beside it": lambda: {"model": STATE} | BESIDE,
    "arrays of numpy": lambda: {"model": {name: value.numpy() for name, value in STATE.items()}} | BESIDE,
    "arrays of another byte order": lambda: {
        k: v.numpy().astype(v.numpy().dtype.newbyteorder(">")) for k, v in STATE.items()
    },
    "an optimiser beside it": lambda: {"model": STATE, "optimizer": optimizer(), "lr_scheduler": {"last_epoch": 3}},
    **{
        key: lambda key=key: {key: STATE, "epoch": 3, "acc": 0.5}  # type: ignore[misc]
        for key in ("net", "model_state_dict", "student", "ema")
    },
    "parallel": lambda: {"net": under("module."), "acc": 69.1},
    "compiled": lambda: under("_orig_mod."),
    "compiled, then parallel": lambda: {"state_dict": under("module._orig_mod.")},
    "a part compiled": lambda: {k.replace("layer1.", "layer1._orig_mod.", 1): v for k, v in STATE.items()},
    "lightning": lambda: {
        "state_dict": under("model.") | {"criterion.weight": torch.ones(10), "accuracy.total": torch.ones(())},
        "hyper_parameters": {"opt": argparse.Namespace(a=1)},
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.ones(())}},
    },
    "a student with a head": lambda: under("module.backbone.") | {"module.proj_head.0.weight": torch.zeros(2, 2)},
    "averaged by torch": lambda: under("module.") | {"n_averaged": torch.tensor(3)},
    "counted by thop": lambda: STATE | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
    "dicts in dicts": lambda: {"checkpoint": {"model": nested(STATE)}},
    "parameters": lambda: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in STATE.items()},
    "old torch": lambda: {k: v for k, v in STATE.items() if not k.endswith("num_batches_tracked")},
    "the same twice": lambda: {"best": STATE, "latest": STATE, "ema": {k: v.clone() for k, v in STATE.items()}},
    "another network's beside it": lambda: {"student": STATE, "teacher": build_network("resnet14", 10).state_dict()},
    "another number of classes beside it": lambda: {"s": STATE, "t": build_network("resnet8", 7).state_dict()},
}


def holds(found: Network, state: State = STATE) -> bool:
    own = found.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items())


@pytest.mark.parametrize("old", [False, True], ids=["", "old torch's format"])
@pytest.mark.parametrize("case", GIVEN)
def test_a_state_dict_loads_wherever_it_stands(case: str, old: bool, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(saved(GIVEN[case](), old))
    said: list[str] = []
    assert holds(load_network(tmp_path / "w.pth", "resnet8", 10, log=said.append))
    assert said == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in STATE.items()}
    torch.save({"ema_state_dict": state}, tmp_path / "w.pth")
    assert holds(load_network(tmp_path / "w.pth", "resnet8", 10), {k: v.to(STATE[k].dtype) for k, v in state.items()})


def test_what_a_file_is_counts_and_not_its_name(tmp_path: Path) -> None:
    save_file(under("model."), tmp_path / "safetensors.pth")
    torch.save(STATE, tmp_path / "torch.safetensors")
    for name in ("safetensors.pth", "torch.safetensors"):
        assert holds(load_network(tmp_path / name, "resnet8", 10))


def test_names_of_other_libraries_and_networks_keep_their_renaming(tmp_path: Path) -> None:
    """The name of the classifier in CRD's checkpoints is another layer in many other networks."""
    theirs = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), classifier=nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5)))
    )
    torch.save({"net": under("module.", theirs.state_dict())}, tmp_path / "w.pth")
    ours = HookedNetwork("own", copy.deepcopy(theirs), 5, NetworkSettings(), None)
    nn.init.zeros_(ours.network.classifier[0].weight)
    load_into(ours, tmp_path / "w.pth", "own", 5)
    assert holds(ours, under("network.", theirs.state_dict()))


BOTH = {
    "timm": {"state_dict": STATE, "state_dict_ema": AVERAGE},
    "torchvision": {"model": STATE, "model_ema": under("module.", AVERAGE) | {"n_averaged": torch.tensor(3)}},
    "swa": {"net": STATE, "swa_model": under("module.", AVERAGE)},
    "lightning": {"state_dict": under("model.") | under("ema_model.", AVERAGE)},
    "averaged first": {"modelEMA": AVERAGE, "network": STATE},
}


@pytest.mark.parametrize("case", BOTH)
def test_raw_and_averaged_weights_that_differ(case: str, tmp_path: Path) -> None:
    path, said = tmp_path / "w.pth", list[str]()
    torch.save(BOTH[case], path)
    assert holds(load_network(path, "resnet8", 10, log=said.append))
    assert "(raw) were taken" in said[0]
    assert "(averaged) were not" in said[0]
    assert holds(load_network(path, "resnet8", 10, which="raw"))
    assert holds(load_network(path, "resnet8", 10, which="averaged", log=said.append), AVERAGE)
    assert "(averaged) were taken" in said[1]


def test_several_weights_by_name(tmp_path: Path) -> None:
    path, said = tmp_path / "w.pth", list[str]()
    torch.save({"student": STATE, "teacher": under("module.", AVERAGE)}, path)
    with pytest.raises(UserError, match="under 'student' and those under 'teacher': choose"):
        load_network(path, "resnet8", 10)
    assert holds(load_network(path, "resnet8", 10, which="teacher"), AVERAGE)
    for which in ("averaged", "tutor"):
        with pytest.raises(UserError, match=f"has no weights '{which}' of resnet8: it has those under 'student'"):
            load_network(path, "resnet8", 10, which=which)
    torch.save({"state_dict": STATE, "best_state_dict": AVERAGE}, path)  # where the published ones have theirs
    assert holds(load_network(path, "resnet8", 10, log=said.append))
    assert "'best_state_dict'" in said[0]


def test_evaluate_says_which_were_taken_and_a_spec_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": STATE, "state_dict_ema": AVERAGE}, path)
    command = ["evaluate", "--network", "resnet8", "--weights", str(path), "--dataset", "digits", "--precision", "fp32"]
    for which, told in (
        ([], "'state_dict' (raw) were taken"),
        (["--which", "averaged"], "'state_dict_ema' (averaged)"),
    ):
        assert main([*command, "--json", *which]) == 0
        shown = capsys.readouterr()
        assert "top1" in json.loads(shown.out)
        assert told in shown.err
    given = {"network": "resnet8", "weights": str(path)}
    measured = {"role": "teacher", "network": "resnet8", "dataset": {"name": "digits"}, "teacher": given}
    ids = {small.spec(measured | {"teacher": given | more}).id for more in ({}, {"which": "averaged"})}
    assert len(ids) == 2
    with pytest.raises(ValueError, match="'which'"):
        FromFile(network="resnet8", weights="timm:a1_in1k", which="raw")


class Call:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def saved(what: Any, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(what, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{key: value.numpy() for key, value in STATE.items()})  # type: ignore[arg-type]
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a module": (lambda: saved(network()), "a sskd.networks.resnet.ResNet. .*save its state dict"),
    "a module in a dict": (lambda: saved({"model": nn.Linear(2, 2), "epoch": 1}), "'model' .torch.nn.modules"),
    "a call": (lambda: saved({"model": STATE, "o": Call()}), "objects that are not loaded"),
    "a script": (script, "a TorchScript program"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
    "a page": (lambda: b"\n<!DOCTYPE html><html>Sign in</html>", "a web page"),
    "nothing": (lambda: b"", "is empty"),
    "numpy's": (npz, "zip file of other files .conv1.weight.npy"),
    "another zip": (lambda: zipped("weights/resnet8.pth", "readme.txt"), "zip file of other files .weights/resnet8"),
    "Keras's": (lambda: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "JSON": (lambda: b'{"weight_map": {}}', "a text file"),
    "a plain pickle": (lambda: pickle.dumps({"model": {"a": 1}}), "a pickle that torch.save has not written"),
    "no tensors": (lambda: saved({"epoch": 3, "opt": argparse.Namespace()}), "'opt' .argparse.Namespace."),
    "texts": (lambda: saved({"names": np.array(["a"])}), "'names' .ndarray."),
    "a list": (lambda: saved([STATE]), "no tensors by name, but a list"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_no_weights_is_named_in_one_plain_line(case: str, tmp_path: Path) -> None:
    content, wanted = OTHERS[case]
    for ending in ("pth", "safetensors"):
        path = tmp_path / f"w.{ending}"
        path.write_bytes(content())
        with pytest.raises(UserError, match=rf"w\.{ending}") as refused:
            load_network(path, "resnet8", 10)
        said = str(refused.value)
        assert said.isprintable(), said  # one line, and no terminal's codes
        assert "weights_only" not in said
        assert len(said) < 600
        assert ending == "safetensors" or refused.match(wanted)


def test_what_is_missing_is_told_of_where_most_of_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"net": under("module."), "epoch": 1}, path)
    with pytest.raises(UserError, match="its classifier has 10 classes"):
        load_network(path, "resnet8", 7)
    with pytest.raises(UserError, match="it lacks layer1.1.conv1.weight.*It fits resnet8 with 10 classes"):
        load_network(path, "resnet14", 10)
    torch.save({"net": {key: value for key, value in under("module.").items() if key != "module.conv1.weight"}}, path)
    with pytest.raises(UserError, match=r"it lacks conv1\.weight$"):
        load_network(path, "resnet8", 10)
