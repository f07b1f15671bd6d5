"""What members made of the test images, counted by hand beside the tables."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports import page, prediction_panels, predictions, tables
from reports.load import load
from reports.schema import rows
from reports.statistics import wilson
from space.validation import InvalidInput


@pytest.fixture(scope="module")
def asked(run):
    """Member → its parquet file, class indices."""
    return {
        member["name"]: pd.read_parquet(run.path / "predictions" / f"{member['name']}.parquet")
        for member in run.family["members"]
    }


def test_accuracy_by_class_counts_the_right_answers(found, asked, run):
    classes = run.family["classes"]
    for row in rows(found.class_accuracy):
        own = asked[row["member"]]
        own = own[own["label"] == classes.index(row["class"])]
        right = int((own["label"] == own["predicted"]).sum())
        assert (row["images"], row["accuracy"]) == (len(own), right / len(own))
        assert (row["low"], row["high"]) == wilson(right / len(own), len(own))
    assert len(found.class_accuracy) == len(asked) * len(classes)


def test_confusions_add_up_to_all_images_and_their_diagonal_to_the_accuracy(found, run):
    for member in run.family["members"]:
        own = found.confusions[found.confusions["member"] == member["name"]]
        assert own["images"].sum() == member["images"]
        right = own[own["label"].astype(str) == own["predicted"].astype(str)]["images"].sum()
        assert right / member["images"] == pytest.approx(member["accuracy"], abs=0.5 / 2000)


def test_the_most_confused_are_wrong_and_the_surest(found, asked):
    for member, own in asked.items():
        shown = found.confused[found.confused["member"] == member]
        wrong = own[own["label"] != own["predicted"]]
        assert len(shown) == min(len(wrong), predictions.MOST_CONFUSED)
        assert list(shown["probability"]) == pytest.approx(
            sorted(wrong["probability"], reverse=True)[: len(shown)]
        )


def test_the_most_confused_have_the_names_of_their_files(found, copied_run):
    assert list(found.confused["file"]) == [
        f"{row['label']}/{row['image']}.png" for row in rows(found.confused)
    ]
    (copied_run / "predictions" / "files.json").unlink()
    assert tables.collect(load(copied_run)).confused["file"].isna().all()
    (copied_run / "predictions" / "files.json").write_text("3")
    with pytest.raises(InvalidInput, match=r"files\.json: cannot read file names"):
        tables.collect(load(copied_run))


def test_activation_maps_have_the_answers_of_all_members(found, run):
    assert [(row["image"], row["member"]) for row in rows(found.activation_maps)] == [
        (image, member["name"]) for image in (0, 4, 9) for member in run.family["members"]
    ]


def test_classes_of_one_name_stay_apart(run):
    family = dict(run.family) | {"classes": ["cat"] * 10}
    found = tables.collect(replace(run, family=family))
    assert len(set(found.class_accuracy["class"])) == 10


def test_of_many_classes_those_most_often_mistaken_are_drawn():
    classes = [f"c{i}" for i in range(50)]
    pairs = [{"label": name, "predicted": name, "images": 10} for name in classes]
    pairs += [{"label": f"c{i}", "predicted": f"c{i + 1}", "images": i} for i in range(30, 49)]
    drawn = prediction_panels._matrix(pairs, classes)
    names = [each["name"] for each in drawn["names"]]
    assert len(names) == prediction_panels.MOST_CLASSES
    assert names == [f"c{i}" for i in range(30, 50)]
    assert drawn["left_out"] == 30


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_brightest_where_the_evidence_is(channels):
    pixels = np.full((32, 32, channels), 128, np.uint8)
    evidence = np.array([[-1.0, 2.0], [0.0, 0.0]], np.float32)
    lit = predictions.lit(pixels, evidence)
    grey = lit.mean(axis=2)
    assert lit.shape == (32, 32, 3)
    assert np.unravel_index(grey.argmax(), grey.shape)[1] > 16 > np.argmax(grey.max(axis=1))
    assert grey[-1, 0] < grey[0, -1]
    plain = Image.open(io.BytesIO(predictions.picture(pixels)))
    assert plain.size == (32, 32)


def test_no_evidence_at_all_lights_nothing():
    pixels = np.full((8, 8, 3), 100, np.uint8)
    lit = predictions.lit(pixels, np.full((2, 2), -1, np.float32))
    assert lit.max() <= 100


def test_damaged_predictions_are_refused_by_name(copied_run):
    (copied_run / "predictions" / "b1.parquet").write_bytes(b"no parquet")
    with pytest.raises(InvalidInput, match=r"b1.parquet: cannot read predictions"):
        tables.collect(load(copied_run))


def test_an_image_that_is_answered_twice_is_refused(copied_run):
    path = copied_run / "predictions" / "b1.parquet"
    table = pd.read_parquet(path)
    pd.concat([table, table.head(1)]).to_parquet(path)
    with pytest.raises(InvalidInput, match=r"b1.parquet: .* \(an image is listed twice\)"):
        tables.collect(load(copied_run))


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_damaged_pictures_are_refused_by_name(copied_run, content: bytes):
    (copied_run / "predictions" / "images.npz").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"images.npz: cannot read arrays"):
        tables.collect(load(copied_run))


def test_objects_are_never_unpickled(copied_run):
    path = copied_run / "predictions" / "images.npz"
    np.savez(path, index=np.array([{}], dtype=object), pixels=np.zeros((1, 2, 2, 3)))
    with pytest.raises(InvalidInput, match=r"images.npz"):
        tables.collect(load(copied_run))


def test_a_members_name_leads_to_no_other_folder(copied_run, run):
    escaping = [member | {"name": "../../x"} for member in run.family["members"]]
    (copied_run.parent / "x.parquet").write_bytes(b"no parquet")
    family = run.family | {"members": escaping}
    found = tables.collect(replace(run, path=copied_run, family=family))
    assert found.confusions.empty


def test_a_run_without_predictions_has_a_report(copied_run):
    for file in (copied_run / "predictions").iterdir():
        file.unlink()
    run = load(copied_run)
    html = page.render(run, tables.collect(run))
    assert "Mistakes" not in html
    assert "Where they look" not in html
