"""The controls are what they are said to be."""

from pathlib import Path

import torch

from benchmarks.tables.spec_builder import method_label
from sskd.losses import kd_divergence
from sskd.runs.settings import method_settings
from tests import small
from tests.methods.given import batch_like
from tests.methods.shapes import FLAT, build, features_like


def test_kd_again_is_kd_with_another_seed_to_the_last_digit(runs: Path, tmp_path: Path) -> None:
    again, kd = small.spec(small.student("kd_again")), small.spec(small.student("kd"))
    moved = small.spec(small.student("kd", seed=1_000_000))
    assert (again.seed, again.random_seed, kd.random_seed) == (0, 1_000_000, 0)
    assert len({again.id, kd.id, moved.id}) == 3
    small.link_needs(runs, tmp_path, kd)
    for spec in (again, moved):
        small.train_all(spec, tmp_path)
    assert small.metrics(tmp_path / again.id) == small.metrics(tmp_path / moved.id)


def test_kd_shuffled_learns_from_the_last_earlier_image_of_the_class() -> None:
    method = build("kd_shuffled", FLAT, FLAT, classes=8)
    student, first, second = (features_like(FLAT, 5, 8) for _ in range(3))
    uniform = torch.zeros(8)
    _, terms = method(student, first, batch_like(torch.tensor([4, 7, 4, 0, 7])))
    torch.testing.assert_close(terms.losses["kd"], kd_divergence(student.logits, uniform.expand(5, 8), 4.0))
    method.after_step()  # images 2, 3 and 4 are the last ones of their classes
    total, terms = method(student, second, batch_like(torch.tensor([4, 0, 7, 1, 4])))
    earlier = torch.stack([first.logits[2], first.logits[3], first.logits[4], uniform, first.logits[2]])
    torch.testing.assert_close(terms.losses["kd"], kd_divergence(student.logits, earlier, 4.0))
    torch.testing.assert_close(total, 0.1 * terms.losses["ce"] + 0.9 * terms.losses["kd"])


def test_their_rows_have_names_of_their_own() -> None:
    labels = [method_label(method_settings(name)) for name in ("kd", "kd_again", "kd_shuffled")]
    assert labels == ["KD", "KD again", "KD shuffled"]
