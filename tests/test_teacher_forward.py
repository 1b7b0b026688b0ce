"""The frozen teacher's pass: in pieces on a CPU, with the numbers of the whole."""

from pathlib import Path

import pytest
import torch

from sskd.distillation import forward
from sskd.networks import Features, build_network
from sskd.training.setup import prepare
from tests import small

EVERYTHING = frozenset({"logits", "pooled", "feature_maps", "preactivations", "pre_pool"})


def tensors(features: Features) -> list[torch.Tensor]:
    final = [] if features.pre_pool is None else [features.pre_pool]
    return [features.logits, *features.feature_maps, features.pooled, *features.preactivations, *final]


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """But for the last bits: how many images there are decides which of oneDNN's kernels computes them."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("network", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2"])
@pytest.mark.parametrize("fold_teacher", [True, False])
def test_pieces_are_as_the_whole(
    network: str, fold_teacher: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = small.EXECUTION.model_copy(update={"fold_teacher": fold_teacher})
    setup = prepare(small.spec(small.teacher()), tmp_path, execution)
    teacher = build_network(network, 10).eval().requires_grad_(False)
    images = torch.randn(2 * forward.CHUNK + 3, 3, 32, 32)
    for needs in (frozenset({"logits", "pooled"}), EVERYTHING):
        in_pieces = forward.TeacherForward(teacher, needs, setup.passes)(images)
        with monkeypatch.context() as changed:
            changed.setattr(forward, "CHUNK", len(images))
            whole = forward.TeacherForward(teacher, needs, setup.passes)(images)
        assert_close(in_pieces.logits, whole.logits)
        assert_close(in_pieces.pooled, whole.pooled)
        assert not in_pieces.logits.is_inference()
        if needs is EVERYTHING:
            pairs = list(zip(tensors(in_pieces), tensors(whole), strict=True))
            assert len(pairs) > 8
            for of_pieces, of_whole in pairs:
                assert_close(of_pieces, of_whole)
        else:  # maps that nobody asked for are not copied
            assert in_pieces.feature_maps == in_pieces.preactivations == ()
            assert in_pieces.pre_pool is None
