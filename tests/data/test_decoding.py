"""One decoder or the other: the same images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.io
from PIL import Image

from sskd.data import image_files as decoding
from sskd.data.image_files import Unreadable, decode, decode_with_pillow, decoder


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    decoder.cache_clear()
    yield
    decoder.cache_clear()


def picture(mode: str) -> Image.Image:
    """Smooth colours, 40 x 24: JPEG keeps them well."""
    y, x = np.mgrid[0:24, 0:40]
    return Image.fromarray(np.stack([x * 6, y * 10, 255 - x * 3], 2).astype(np.uint8)).convert(mode)


def test_pillow_decodes_where_torchvision_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {}
    for mode, ending in (("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png")):
        files[mode] = tmp_path / f"{mode}.{ending}"
        picture(mode).save(files[mode])
    by_torchvision = {mode: decode(file) for mode, file in files.items()}
    assert decoder() is not decode_with_pillow
    monkeypatch.delattr(torchvision.io, "decode_image")
    decoder.cache_clear()
    assert decoder() is decode_with_pillow
    for mode, file in files.items():
        image = decode(file)
        assert image.shape == (3, 24, 40)
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert (image.int() - by_torchvision[mode].int()).abs().max() <= 2, mode


@pytest.mark.parametrize("pillow", [False, True])
def test_what_is_no_usual_image_is_refused_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillow: bool
) -> None:
    if pillow:
        monkeypatch.setattr(decoding, "decoder", lambda: decode_with_pillow)
    whole = tmp_path / "whole.jpg"
    picture("RGB").save(whole)
    for name, content in (("cut.jpg", whole.read_bytes()[:-200]), ("no.jpg", b"no image"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(content)
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    frames = [picture("RGB"), picture("L").convert("RGB")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("cut.jpg", "no.jpg", "empty.jpg", "deep.png", "moving.gif", "absent.jpg"):
        with pytest.raises(Unreadable, match=f"{name} cannot be read as an image: ") as error:
            decode(tmp_path / name)
        assert "\n" not in str(error.value)
