"""The model card: `README.md` of a member, with the metadata that model hubs read.

Everything in it comes from family.json and the files beside it. Names of classes and of data are
other people's text: in tables and in YAML they are escaped.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

from scaling.formats import ARCHITECTURE, Portable, full_name, onnx, render
from scaling.intervals import wilson
from scaling.saved_family import FamilyRecord, MemberRecord
from space.architecture import Architecture
from space.validation import InvalidInput

#: The file with a family's latencies, in its folder; `phiscale latency` writes it.
LATENCY = "latency.csv"

#: The largest such table that is read, in bytes (assumed).
_MOST_BYTES = 1_000_000

#: The most classes that are listed; if there are more, only the worst (assumed).
_LISTED = 20


class _Class(NamedTuple):
    """A class: training images, test images, and the accuracy on these where it is known."""

    name: str
    train: int
    images: int
    accuracy: float | None


def text(family: FamilyRecord, member: MemberRecord, folder: Path) -> str:
    """The card of `member`, whose files lie in `folder`/NAME."""
    data = json.loads((folder / member.name / ARCHITECTURE).read_bytes())
    network = Architecture.from_dict(data, source=ARCHITECTURE)
    given, metric = family.preprocessing, family.origin.metric if family.origin else "top1"
    name = full_name(family.name, member.name)
    return render(
        "README.md.jinja",
        metadata=_metadata(family, member),
        family=family,
        member=member,
        portable=Portable(name, network, family.classes, given),
        network=network,
        given=given,
        pixels=network.resolution,
        stored=given.stored or network.resolution,
        oldest_runtime=onnx.OLDEST_RUNTIME,
        metric="accuracy" if metric == "top1" else f"{metric} accuracy",
        latencies=_latencies(folder / LATENCY, member.name),
        origin=family.origin,
        data=family.data,
        cell=cell,
        interval=interval,
        classes=json.dumps(family.classes, ensure_ascii=False),  # without line breaks
        **_balance(family, member),
    )


def _metadata(family: FamilyRecord, member: MemberRecord) -> str:
    import yaml

    tags = ["image-classification", "phiscale", *(["onnx"] if onnx.FILE in member.files else [])]
    data: dict[str, Any] = {
        "license": "other",
        "library_name": "pytorch",  # timm knows the network once timm_model.py is imported
        "pipeline_tag": "image-classification",
        "tags": tags,
    }
    if member.accuracy is not None and family.data:
        dataset = {"name": family.data.source, "type": _slug(family.data.source), "split": "test"}
        result = {
            "task": {"type": "image-classification"},
            "dataset": dataset,
            "metrics": [{"type": "accuracy", "value": round(member.accuracy, 4)}],
        }
        data["metrics"] = ["accuracy"]
        data["model-index"] = [{"name": full_name(family.name, member.name), "results": [result]}]
    dumped: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return dumped


def _slug(name: str) -> str:
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
    return plain.strip("-").lower() or "images"


def _latencies(path: Path, name: str) -> list[str]:
    """The rows of a member in the table at `path`, if there is one."""
    if not path.is_file():
        return []
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is a link, or has more than {_MOST_BYTES} bytes")
        with path.open(encoding="utf-8", newline="") as file:
            return [_latency(row) for row in csv.DictReader(file) if row["member"] == name]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise InvalidInput(
            f"{path}: must be the table that phiscale latency writes, but {error}"
        ) from None


def _latency(row: dict[str, str]) -> str:
    low, median, high = (1e3 * float(row[f"{name}_seconds"]) for name in ("low", "median", "high"))
    return (
        f"| {cell(row['backend'])} | {cell(row['device'])} | {int(row['threads'])} | "
        f"{int(row['batch'])} | {median:.3g} | {low:.3g} to {high:.3g} | "
        f"{float(row['images_per_second']):,.0f} |"
    )


def _balance(family: FamilyRecord, member: MemberRecord) -> dict[str, Any]:
    """The balance of the classes, and how well each is recognised."""
    if not (data := family.data):
        return {}
    counts = data.train_per_class
    accuracies = member.class_accuracies or (None,) * len(counts)
    rows = list(map(_Class, family.classes, counts, data.test_per_class, accuracies))
    known = sorted(
        (row for row in rows if row.accuracy is not None), key=lambda row: row.accuracy or 0.0
    )
    worst = known[0] if known else None
    best = max(known, key=lambda row: row.accuracy or 0.0, default=None)
    return {
        "balance": max(counts) / max(1, min(counts)),
        "worst": worst,
        "best": best,
        "bias": _bias(worst, best) if worst and best else "",
        "listed": rows if len(rows) <= _LISTED else known[:_LISTED],
    }


def _bias(worst: _Class, best: _Class) -> str:
    """Whether the 95 % intervals of two classes lie apart, as the end of a sentence."""
    if min(worst.images, best.images) == 0:
        return ""
    if (
        wilson(worst.accuracy or 0.0, worst.images)[1]
        < wilson(best.accuracy or 0.0, best.images)[0]
    ):
        return ": a known bias, beyond what so many images vary by"
    return ": so few images do not show a difference between the two"


def interval(measured: Any) -> str:
    """The 95 % interval of an accuracy."""
    return " to ".join(f"{end:.1%}" for end in wilson(measured.accuracy, measured.images))


def cell(value: str) -> str:
    """Other people's text for a table: on one line, without what Markdown or HTML would read."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_|[]#" else c for c in line)
