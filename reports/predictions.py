"""What a family's members predict for the test images: accuracy by class, confusions, pictures.

The family stage writes these to the run's `predictions/`; `experiments.families.predictions` says
what each file holds. Classes are named as in `family.json`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.load import Run, readable
from reports.schema import frame, names, rows
from reports.statistics import interval

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_ANSWERS = names("member image label predicted probability")
_CLASSES = names("member class images accuracy low high")
_CONFUSIONS = names("member label predicted images")

#: Wrong answers that are shown for each member.
MOST_CONFUSED = 12

#: The weight of the evidence's colour over the image in grey (assumed).
_TINT = 0.6

_AGAIN = "run the family stage again"


def answers(run: Run, *, rivals: bool = False) -> pd.DataFrame:
    """Each member's prediction for each test image, or each rival's, by the names of the classes.

    Empty if the run has no predictions yet, or no family that names the classes. Raises
    `InvalidInput` if a file cannot be read.
    """
    import pandas as pd

    family = run.family or {}
    classes = pd.Index(_distinct([str(name) for name in family.get("classes", ())]))
    named = [str(each["name"]) for each in family.get("members", ())]
    if len(classes) == 0:
        return frame([], _ANSWERS)
    tables = []
    if rivals:
        named = [*dict.fromkeys(trial.job for trial in run.study("rivals"))]
    for member in named:
        path = _file(run.path, f"{member}.parquet")
        if path is None:
            continue
        with readable(path, "predictions", _AGAIN):
            table = pd.read_parquet(path, columns=_ANSWERS[1:])
            if not table["image"].is_unique:
                raise ValueError("an image is listed twice")
            for name in ("label", "predicted"):
                table[name] = pd.Categorical.from_codes(table[name].to_numpy(), classes)
        tables.append(table.assign(member=member)[_ANSWERS])
    if not tables:
        return frame([], _ANSWERS)
    every = pd.concat(tables, ignore_index=True)
    return every.assign(member=pd.Categorical(every["member"], every["member"].unique()))


def _file(run_dir: Path, name: str) -> Path | None:
    """The file `name` of the run's predictions, if it exists; never one of another folder."""
    path = run_dir / "predictions" / name
    return path if path.name == name and path.is_file() else None


def _distinct(classes: list[str]) -> list[str]:
    """The names, with the index added to those that repeat an earlier one."""
    first = {name: place for place, name in reversed(list(enumerate(classes)))}
    return [
        name if first[name] == place else f"{name} ({place})" for place, name in enumerate(classes)
    ]


def class_accuracy(answers: pd.DataFrame) -> pd.DataFrame:
    """Each member's accuracy on the test images of each class, in the order of the classes."""
    by_class = right(answers).groupby([answers["member"], answers["label"]], observed=True)
    counted = by_class.agg(["sum", "size"]).reset_index()
    found = [
        {"member": row["member"], "class": row["label"]}
        | interval(row["sum"] / row["size"], row["size"])
        for row in rows(counted)
    ]
    return frame(found, _CLASSES)


def right(answers: pd.DataFrame) -> pd.Series[bool]:
    """Which answers are right."""
    return answers["label"].astype(str) == answers["predicted"].astype(str)


def confusions(answers: pd.DataFrame) -> pd.DataFrame:
    """The number of images for each member, true class and predicted class, where it is not 0.

    Includes the right answers: those with label = predicted.
    """
    pairs = answers.groupby(["member", "label", "predicted"], observed=True).size()
    return frame(rows(pairs.reset_index(name="images")), _CONFUSIONS)


def confused(answers: pd.DataFrame, most: int = MOST_CONFUSED) -> pd.DataFrame:
    """Each member's wrong answers of highest probability, in falling order, at most `most` each."""
    surest = answers[~right(answers)].sort_values("probability", ascending=False, kind="stable")
    first = surest.groupby("member", sort=False).head(most)
    return frame(rows(first.sort_values("member", kind="stable")), _ANSWERS)


def with_files(run: Run, answers: pd.DataFrame) -> pd.DataFrame:
    """`answers` with the name that the data source gives each image; None if it is unknown."""
    path = _file(run.path, "files.json")
    files: dict[int, str] = {}
    if path:
        with readable(path, "file names", _AGAIN):
            files = dict(enumerate(map(str, json.loads(path.read_text("utf-8")))))
    found = [row | {"file": files.get(row["image"])} for row in rows(answers)]
    return frame(found, [*answers.columns, "file"])


def mapped(answers: pd.DataFrame, kept: PredictionImages) -> pd.DataFrame:
    """The answers to the test images that have activation maps, image by image."""
    found = [
        row
        for image in next(iter(kept.maps.values()), {})
        if image in kept.pixels
        for row in rows(answers[answers["image"] == image])
        if image in kept.maps.get(row["member"], {})
    ]
    return frame(found, _ANSWERS)


class PredictionImages(NamedTuple):
    """Some test images by their index (uint8, H × W × C), and activation maps.

    `maps` has, for each member, the evidence (h × w) for the true class of some of the images.
    """

    pixels: Mapping[int, NDArray[np.uint8]]
    maps: Mapping[str, Mapping[int, NDArray[np.float32]]]


def pictures(run_dir: Path) -> PredictionImages:
    """The images and maps that are stored in the run; empty if there are none."""
    kept, mapped = (_arrays(run_dir, f"{name}.npz") for name in ("images", "activation_maps"))
    order = [int(image) for image in mapped.pop("index", ())]
    index = map(int, kept.get("index", ()))
    return PredictionImages(
        pixels=dict(zip(index, kept.get("pixels", ()), strict=True)),
        maps={
            name: dict(zip(order, maps.astype("float32"), strict=True))
            for name, maps in mapped.items()
        },
    )


def _arrays(run_dir: Path, name: str) -> dict[str, Any]:
    import numpy as np

    path = _file(run_dir, name)
    if path is None:
        return {}
    with readable(path, "arrays", _AGAIN), np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def picture(pixels: NDArray[np.uint8], evidence: NDArray[np.float32] | None = None) -> bytes:
    """An image (H × W × C) as JPEG, with the `evidence` (h × w) for a class over it, if given."""
    from PIL import Image

    shown = lit(pixels, evidence) if evidence is not None else pixels
    flat = shown[:, :, 0] if shown.shape[2] == 1 else shown
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "JPEG", quality=85, subsampling=0)
    return buffer.getvalue()


def lit(pixels: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in grey with its evidence as colour: dark at 0 or less, bright at the maximum.

    `pixels` is H × W × C, `evidence` h × w; returns H × W × 3. The colours rise in lightness, so
    they also work in grey and for the colour-blind.
    """
    import numpy as np
    from matplotlib import colormaps
    from PIL import Image

    height, width = pixels.shape[:2]
    positive = np.maximum(evidence, 0) / max(float(evidence.max()), 1e-12)
    smooth = Image.fromarray(positive.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    colours = colormaps["inferno"](np.clip(np.asarray(smooth), 0, 1))[:, :, :3] * 255
    grey = pixels.mean(axis=2, keepdims=True)
    return np.asarray((1 - _TINT) * grey + _TINT * colours).round().astype(np.uint8)
