"""The built-in set is the same everywhere, as large as asked for, and drawn with every font."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font

from experiments.config import GlyphsConfig
from experiments.data import glyphs
from experiments.data.glyphs import CHARACTERS, FONTS, draw
from experiments.data.source import Split
from space.validation import InvalidInput


def test_an_image_depends_on_seed_split_and_index_alone() -> None:
    few, many = GlyphsConfig(train_images=10), GlyphsConfig(train_images=10_000)
    image = draw(few, Split.TRAIN, 3)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, draw(many, Split.TRAIN, 3))
    for other in (
        draw(few, Split.TRAIN, 13),
        draw(few, Split.TEST, 3),
        draw(GlyphsConfig(seed=1), Split.TRAIN, 3),
    ):
        assert not np.array_equal(image, other)


def test_classes_take_turns_and_letters_come_first(loaded) -> None:
    data = loaded("glyphs", 64, glyphs={"classes": 27, "train_images": 81, "test_images": 54})
    assert data.classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ0")
    assert np.bincount(data.full_train.labels).tolist() == [3] * 27
    assert np.bincount(data.test.labels).tolist() == [2] * 27


def test_every_font_has_every_character() -> None:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    for font in FONTS:
        known = FT2Font(str(folder / font)).get_charmap()
        assert [c for c in CHARACTERS if ord(c) not in known] == []


@pytest.mark.parametrize("hollow", [False, True])
def test_no_two_characters_of_a_font_look_the_same(hollow: bool) -> None:
    for font in range(len(FONTS)):
        drawn = {glyphs._mask(character, font, hollow).tobytes() for character in CHARACTERS}
        assert len(drawn) == len(CHARACTERS)


def test_a_contour_is_a_thin_part_of_its_character() -> None:
    for font in range(len(FONTS)):
        solid, hollow = (np.asarray(glyphs._mask("H", font, kind)) for kind in (False, True))
        assert (hollow <= solid).all()
        assert 0.05 < hollow.mean() / solid.mean() < 0.9


def test_a_missing_font_is_told(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(InvalidInput, match=r"matplotlib's fonts, but .* is missing; install"):
        glyphs._font.__wrapped__(0)


def plain(**changes: Any) -> GlyphsConfig:
    return GlyphsConfig(**{"clutter": 0, "noise": 0.0, **changes})


def test_noise_is_as_strong_as_it_says() -> None:
    """On images of full range, clipping bites; so at mid-grey contrast and few pixels only."""
    clean = np.stack([draw(plain(), Split.TRAIN, i) for i in range(20)]).astype(float)
    noisy = np.stack([draw(plain(noise=0.05), Split.TRAIN, i) for i in range(20)]).astype(float)
    unclipped = (clean > 60) & (clean < 195)
    assert (noisy - clean)[unclipped].std() == pytest.approx(0.05 * 255, rel=0.05)


def test_clutter_adds_lines_up_to_its_number() -> None:
    def changed(clutter: int) -> float:
        pairs = (
            (draw(plain(), Split.TRAIN, i), draw(plain(clutter=clutter), Split.TRAIN, i))
            for i in range(40)
        )
        return float(np.mean([(one != other).any(axis=2).mean() for one, other in pairs]))

    assert 0 < changed(1) < changed(5) < changed(20) < 0.6


@pytest.mark.parametrize("contrast", [0.3, 0.9])
def test_ink_stands_out_by_the_contrast(contrast: float) -> None:
    for seed in range(200):
        random = np.random.default_rng(seed)
        background, ink = glyphs._brightness(contrast, random)
        assert 0 <= min(background, ink) < max(background, ink) <= 1
        assert abs(background - ink) >= contrast - 1e-9


def test_both_dark_on_light_and_light_on_dark_are_drawn() -> None:
    darker = [
        np.subtract(*glyphs._brightness(0.5, np.random.default_rng(s))) > 0 for s in range(99)
    ]
    assert 30 < sum(darker) < 69


def test_more_images_leave_the_others_as_they_were(loaded) -> None:
    small = loaded("glyphs", 64, glyphs={"train_images": 60, "test_images": 20})
    large = loaded("glyphs", 64, glyphs={"train_images": 90, "test_images": 20})
    every = [part.read(np.arange(len(part))) for part in (small.full_train, large.full_train)]
    one, other = ({image.tobytes() for image in images} for images in every)
    assert one < other
    assert np.array_equal(small.test.labels, large.test.labels)


def test_the_set_is_stored_at_its_native_size_at_most(loaded) -> None:
    settings = {"train_images": 60, "test_images": 20}
    assert loaded("glyphs", 224, glyphs=settings).train.resolution == 64
    assert loaded("glyphs", 32, glyphs=settings).train.resolution == 32
