"""What a family's members made of the test images: accuracy by class, confusions, pictures.

The family stage leaves these in the run's `predictions/`; `experiments.families.predictions` says
what each file holds. Classes are named as in `family.json`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.load import Run
from reports.schema import frame, names, rows
from reports.statistics import interval
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_ANSWERS = names("member image label predicted probability")
_CLASSES = names("member class images accuracy low high")
_CONFUSIONS = names("member label predicted images")

#: Wrong answers that are shown of a member.
MOST_CONFUSED = 12


def answers(run: Run) -> pd.DataFrame:
    """Each member's answer to each test image, by the names of the classes.

    Empty where no member has been asked. Raises `InvalidInput` where a file cannot be read.
    """
    import pandas as pd

    family = run.family or {}
    classes = [str(name) for name in family.get("classes", ())]
    tables = []
    for member in family.get("members", ()):
        path = _file(run, f"{member['name']}.parquet")
        if path is None:
            continue
        try:
            table = pd.read_parquet(path, columns=["image", "label", "predicted", "probability"])
            for name in ("label", "predicted"):
                table[name] = pd.Categorical.from_codes(
                    table[name].to_numpy(), pd.Index(_distinct(classes))
                )
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInput(
                f"{path}: cannot read predictions ({error}); run the family stage again"
            ) from None
        tables.append(table.assign(member=str(member["name"]))[_ANSWERS])
    if not tables:
        return frame([], _ANSWERS)
    every = pd.concat(tables, ignore_index=True)
    members = dict.fromkeys(every["member"])
    return every.assign(member=pd.Categorical(every["member"], categories=list(members)))


def _file(run: Run, name: str) -> Path | None:
    """A file of predictions where it is there, and nowhere else."""
    path = run.path / "predictions" / name
    inside = path.parent == run.path / "predictions" and path.name == name
    return path if inside and path.is_file() else None


def _distinct(classes: list[str]) -> list[str]:
    """The names, those that repeat an earlier one with their index."""
    first = {name: place for place, name in reversed(list(enumerate(classes)))}
    return [
        name if first[name] == place else f"{name} ({place})" for place, name in enumerate(classes)
    ]


def class_accuracy(answers: pd.DataFrame) -> pd.DataFrame:
    """Each member's accuracy on the test images of each class, in the order of the classes."""
    right = answers["label"].astype(str) == answers["predicted"].astype(str)
    by_class = answers.assign(right=right).groupby(["member", "label"], observed=True)["right"]
    counted = by_class.agg(["sum", "size"]).reset_index()
    found = [
        {"member": row["member"], "class": row["label"]}
        | interval(row["sum"] / row["size"], row["size"])
        for row in rows(counted)
    ]
    return frame(found, _CLASSES)


def confusions(answers: pd.DataFrame) -> pd.DataFrame:
    """How many images of each class each member took for each; pairs that never occurred are out.

    The right answers are those with label = predicted.
    """
    pairs = answers.groupby(["member", "label", "predicted"], observed=True).size()
    return frame(rows(pairs.reset_index(name="images")), _CONFUSIONS)


def confused(answers: pd.DataFrame, most: int = MOST_CONFUSED) -> pd.DataFrame:
    """Each member's wrong answers that it was surest of, the surest first, at most `most` each."""
    wrong = answers[answers["label"].astype(str) != answers["predicted"].astype(str)]
    surest = wrong.sort_values("probability", ascending=False, kind="stable")
    first = surest.groupby("member", sort=False).head(most)
    return frame(rows(first.sort_values("member", kind="stable")), _ANSWERS)


def with_files(run: Run, answers: pd.DataFrame) -> pd.DataFrame:
    """Some answers, with what the data's source calls each image; None where that is not known."""
    path = _file(run, "files.json")
    try:
        names = json.loads(path.read_text("utf-8")) if path else []
        files = {index: str(name) for index, name in enumerate(names)}
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{path}: cannot read file names ({error}); run the family stage again"
        ) from None
    found = [row | {"file": files.get(row["image"])} for row in rows(answers)]
    return frame(found, [*answers.columns, "file"])


def mapped(answers: pd.DataFrame, kept: PredictionImages) -> pd.DataFrame:
    """The answers to the test images of which there are activation maps, image by image."""
    found = [
        row
        for image in next(iter(kept.maps.values()), {})
        if image in kept.pixels
        for row in rows(answers[answers["image"] == image])
        if image in kept.maps.get(row["member"], {})
    ]
    return frame(found, _ANSWERS)


@dataclass(frozen=True)
class PredictionImages:
    """Some test images (uint8, side × side × channels, by their index), and activation maps.

    `maps` has for each member the evidence (h × w) for the right class in each of some images.
    """

    pixels: Mapping[int, NDArray[np.uint8]]
    maps: Mapping[str, Mapping[int, NDArray[np.float32]]]


def pictures(run: Run) -> PredictionImages:
    """The pictures that the run has kept; none where it has not kept any."""
    kept, mapped = (_arrays(run, f"{name}.npz") for name in ("images", "activation_maps"))
    order = mapped.pop("index", ())
    return PredictionImages(
        pixels=dict(
            zip(map(int, kept.get("index", ())), kept.get("pixels", ()), strict=True),
        ),
        maps={
            name: dict(zip(map(int, order), maps.astype("float32"), strict=True))
            for name, maps in mapped.items()
        },
    )


def _arrays(run: Run, name: str) -> dict[str, Any]:
    import numpy as np

    path = _file(run, name)
    if path is None:
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            f"{path}: cannot read arrays ({error}); run the family stage again"
        ) from None


def picture(pixels: NDArray[np.uint8], evidence: NDArray[np.float32] | None = None) -> bytes:
    """An image as JPEG, lit where the `evidence` (h × w) for its class is (see `lit`)."""
    from PIL import Image

    shown = lit(pixels, evidence) if evidence is not None else pixels
    flat = shown[:, :, 0] if shown.shape[2] == 1 else shown
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "JPEG", quality=85, subsampling=0)
    return buffer.getvalue()


#: The part that the evidence's colour has in a picture, beside the image in grey (assumed).
_TINT = 0.6


def lit(pixels: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in grey under its evidence: black where that is 0 or less, bright at its largest.

    `pixels` are H × W × C, `evidence` is h × w; gives H × W × 3. The colours rise in lightness, so
    they are read in grey and by the colour-blind.
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
