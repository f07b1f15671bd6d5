import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from experiments.data.images import DecodedImages
from experiments.families.predictions import Predictions, confused, spread
from experiments.training.augment import normalise, resize
from space import presets
from space.network import build

CLASSES = 4


@pytest.fixture(scope="module")
def images():
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (150, 40, 40, 3), dtype=np.uint8)
    labels = draw.integers(0, CLASSES, 150)
    return DecodedImages(pixels, np.arange(150), labels)


@pytest.fixture(scope="module")
def networks():
    made = {}
    for name, resolution in (("b0", 32), ("b1", 48)):
        torch.manual_seed(len(made))
        architecture = presets.load("mobilenet_v2", num_classes=CLASSES)
        made[name] = build(replace(architecture, resolution=resolution)).eval()
    return made


@pytest.fixture(scope="module")
def folder(images, networks, tmp_path_factory):
    path = tmp_path_factory.mktemp("predictions")
    made = Predictions(path, images, torch.device("cpu"), tuple(f"{i}.png" for i in range(150)))
    for name, network in networks.items():
        made.add(name, network)
    made.write_images()
    return path


def test_the_predictions_are_the_networks_own(folder, images, networks):
    for name, network in networks.items():
        table = pq.read_table(folder / f"{name}.parquet")
        assert table.column_names == ["image", "label", "predicted", "probability"]
        assert table["image"].to_pylist() == list(range(150))
        assert table["label"].to_pylist() == images.labels.tolist()
        pixels = torch.from_numpy(images.read(np.arange(150)))
        seen = resize(pixels, network.architecture.resolution).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = network(normalise(seen)).softmax(1)
        assert table["predicted"].to_pylist() == expected.argmax(1).tolist()
        np.testing.assert_allclose(table["probability"], expected.amax(1), rtol=1e-4)


def test_every_test_image_has_its_name(folder):
    assert json.loads((folder / "files.json").read_text()) == [f"{i}.png" for i in range(150)]


def test_the_surest_wrong_answers_are_kept_as_pictures(folder, images):
    kept = np.load(folder / "images.npz", allow_pickle=False)
    np.testing.assert_array_equal(kept["pixels"], images.read(kept["index"]))
    for name in ("b0", "b1"):
        table = pq.read_table(folder / f"{name}.parquet")
        worst = confused(table, 12)
        rows = table.take(worst).to_pylist()
        assert all(row["label"] != row["predicted"] for row in rows)
        sure = [row["probability"] for row in rows]
        assert sure == sorted(sure, reverse=True)
        assert set(worst) <= set(kept["index"].tolist())


def test_every_member_has_a_map_of_every_chosen_image(folder, images):
    maps = np.load(folder / "activation_maps.npz", allow_pickle=False)
    assert maps["index"].tolist() == spread(images.labels, 6).tolist()
    assert maps["b0"].shape == (CLASSES, 8, 8)
    assert maps["b1"].shape == (CLASSES, 12, 12)
    assert set(maps["index"]) <= set(np.load(folder / "images.npz")["index"])


def test_the_images_of_the_maps_are_of_as_many_classes_as_there_are(images):
    assert sorted(images.labels[spread(images.labels, 6)]) == list(range(CLASSES))
    assert len(spread(np.arange(1000), 6)) == 6


def test_what_these_weights_have_predicted_is_not_computed_again(
    folder, images, networks, monkeypatch
):
    before = (folder / "b0.parquet").read_bytes()
    again = Predictions(folder, images, torch.device("cpu"))
    monkeypatch.setattr(Predictions, "_predict", None)  # calling it would raise
    again.add("b0", networks["b0"])
    assert (folder / "b0.parquet").read_bytes() == before
    changed = build(networks["b0"].architecture)
    with pytest.raises(TypeError):
        again.add("b0", changed)
