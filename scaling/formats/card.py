"""The model card: `README.md` of a member, with the metadata that model hubs read.

Everything in it comes from family.json and the files beside it. Names of classes and of data are
other people's text: in tables and in YAML they are escaped.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.formats import ARCHITECTURE, full_name, onnx, usage
from scaling.saved_family import FamilyRecord, MemberRecord
from space.architecture import Architecture
from space.validation import InvalidInput

#: Where a family's latencies are, in its folder (`phiscale latency` writes it).
LATENCY = "latency.csv"

#: The largest such table that is read, in bytes (assumed).
_MOST_BYTES = 1_000_000

#: Classes that are listed one by one; of more, the worst so many (assumed).
_LISTED = 20

#: The normal quantile of a 95 % interval.
_Z = 1.959964


def text(family: FamilyRecord, member: MemberRecord, folder: Path) -> str:
    """The card of `member`, whose files lie in `folder`/NAME."""
    data = json.loads((folder / member.name / ARCHITECTURE).read_bytes())
    network = Architecture.from_dict(data, source=ARCHITECTURE)
    sections = [
        _metadata(family, member),
        _introduction(family, member, network),
        usage.text(family, member, network),
        _results(family, member),
        _costs(family, member, folder),
        _origin(family, member),
        _data(family, member),
        _LIMITS.format(pixels=network.resolution),
        _classes(family),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def wilson(right: float, images: int) -> tuple[float, float]:
    """The 95 % interval of a fraction `right` of `images` (Wilson 1927)."""
    centre = right + _Z**2 / (2 * images)
    spread = _Z * math.sqrt(right * (1 - right) / images + (_Z / (2 * images)) ** 2)
    scale = 1 + _Z**2 / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


# -------------------------------------------------------------------------------------- sections


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
        metric = {"type": "accuracy", "value": round(member.accuracy, 4)}
        result = {
            "task": {"type": "image-classification"},
            "dataset": dataset,
            "metrics": [metric],
        }
        data["metrics"] = ["accuracy"]
        data["model-index"] = [{"name": full_name(family.name, member.name), "results": [result]}]
    dumped = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return f"---\n{dumped}---"


def _slug(name: str) -> str:
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
    return plain.strip("-").lower() or "images"


def _introduction(family: FamilyRecord, member: MemberRecord, network: Architecture) -> str:
    scaled = ""
    if family.coefficients:
        scaled = (
            f", member {member.name} of {len(family.members)}: the family's baseline at "
            f"φ = {member.phi:g} (depth × {member.depth:.3g}, width × {member.width:.3g})"
        )
    return f"""\
# {full_name(family.name, member.name)}

A convolutional network that classifies images of {network.resolution} × {network.resolution} pixels
into {len(family.classes)} classes{scaled}.
It was designed and trained with phiscale."""


def _results(family: FamilyRecord, member: MemberRecord) -> str:
    if member.accuracy is None or not member.images:
        return "## Results\n\nThese weights were not evaluated."
    low, high = wilson(member.accuracy, member.images)
    metric = family.origin.metric if family.origin else "top1"
    what = "accuracy" if metric == "top1" else f"{metric} accuracy"
    lines = [
        f"**{member.accuracy:.2%}** {what} of {member.images:,} test images that were not used in "
        f"training (95 % interval for other images like them: {low:.1%} to {high:.1%}, Wilson)."
    ]
    if found := member.int8:
        low, high = wilson(found.accuracy, found.images)
        lost = 100 * (found.full_accuracy - found.accuracy)
        verb = "are lost" if lost >= 0 else "more"
        lines.append(
            f"With 8 bits (`{onnx.INT8}`, static post-training quantisation) {found.accuracy:.2%} "
            f"({low:.1%} to {high:.1%}) of {found.images:,} test images, and with 32 bits "
            f"{found.full_accuracy:.2%}: {abs(lost):.2f} points {verb}."
        )
    if len(family.members) > 1:
        lines.append("The family:\n\n" + "\n".join(_family_table(family, member)))
    return "## Results\n\n" + "\n\n".join(lines)


def _family_table(family: FamilyRecord, member: MemberRecord) -> Iterator[str]:
    yield "| member | φ | pixels | MACs | parameters | test accuracy | 95 % interval |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for each in family.members:
        bold = "**" if each.name == member.name else ""
        accuracy, interval = "", ""
        if each.accuracy is not None and each.images:
            accuracy = f"{each.accuracy:.2%}"
            interval = " to ".join(f"{end:.1%}" for end in wilson(each.accuracy, each.images))
        yield (
            f"| {bold}{each.name}{bold} | {each.phi:g} | {each.resolution} | {each.cost.macs:,} | "
            f"{each.cost.params:,} | {accuracy} | {interval} |"
        )


def _costs(family: FamilyRecord, member: MemberRecord, folder: Path) -> str:
    cost, seconds = member.cost, member.train_seconds
    epochs = f" (epochs: {family.origin.family_epochs})" if family.origin else ""
    lines = [
        "## Costs",
        "",
        "| | for one image |",
        "| --- | ---: |",
        f"| MACs (multiply–adds; FLOPs are twice that) | {cost.macs:,} |",
        f"| parameters | {cost.params:,} |",
        f"| activations (outputs of convolutions) | {cost.activations:,} |",
    ]
    if seconds:
        lines.append(f"| training, in all | {seconds:,.0f} s{epochs} |")
    if rows := _latencies(folder / LATENCY, member.name):
        lines += [
            "",
            "Latency, measured (median, and the quartiles of all calls):",
            "",
            "| backend | device | threads | batch | ms per call | quartiles | images per second |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    else:
        lines += ["", "Latency was not measured; run `phiscale latency`."]
    return "\n".join(lines)


def _latencies(path: Path, name: str) -> list[str]:
    """The rows of a member in the table at `path`; none where there is no table."""
    if not path.is_file():
        return []
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is a link, or has more than {_MOST_BYTES} bytes")
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["member"] == name]
        return [_latency_row(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise InvalidInput(
            f"{path}: must be the table that phiscale latency writes, but {error}"
        ) from None


def _latency_row(row: dict[str, str]) -> str:
    low, median, high = (1e3 * float(row[f"{name}_seconds"]) for name in ("low", "median", "high"))
    return (
        f"| {_cell(row['backend'])} | {_cell(row['device'])} | {int(row['threads'])} | "
        f"{int(row['batch'])} | {median:.3g} | {low:.3g} to {high:.3g} | "
        f"{float(row['images_per_second']):,.0f} |"
    )


def _origin(family: FamilyRecord, member: MemberRecord) -> str:
    lines = []
    if origin := family.origin:
        lines.append(
            f"A search of {origin.trials:,} training runs (epochs: {origin.search_epochs}) in the "
            f"space {_cell(origin.space)} (sampler {_cell(origin.sampler)}, seed {origin.seed}) "
            f"for the reward {_cell(origin.reward)} found the baseline."
        )
    if family.origin and (start := family.origin.start):
        licence = _cell(start.licence) if start.licence else "not stated by their publisher"
        lines.append(
            f"Training started from the weights of {_cell(start.source)}: file {_cell(start.file)},"
            f" SHA-256 {start.sha256}, licence {licence}."
        )
    if found := family.coefficients:
        lines.append(
            f"It grows by α = {found.alpha:g} (depth), β = {found.beta:g} (width) and "
            f"γ = {found.gamma:g} (resolution), each to the power of φ "
            f"(α·β²·γ² = {found.nominal:.3g}); this member is φ = {member.phi:g}."
        )
    if family.origin:
        lines.append(f"Made with phiscale {_cell(family.origin.phiscale)}.")
    return "## How it was found\n\n" + "\n".join(lines) if lines else ""


def _data(family: FamilyRecord, member: MemberRecord) -> str:
    if not (data := family.data):
        return ""
    lines = [
        "## Data",
        "",
        f"`{_cell(data.source)}`: {data.train:,} training images, {data.test:,} test images; "
        f"{data.held_out:,} of the training images measured the search. "
        f"Fingerprint `{_cell(data.fingerprint)}`.",
        *(f"{_cell(remark)}" for remark in data.remarks),
        "",
        *_balance(family, member),
        "",
        "To be filled in by whoever publishes this:",
        "",
        "- **Where the images come from, and their licence**: …",
        "- **Consent of the people shown, or why none is needed**: …",
        "- **Licence of these weights** (and `license` at the top of this file): …",
        "- **Contact**: …",
    ]
    return "\n".join(lines)


def _balance(family: FamilyRecord, member: MemberRecord) -> Iterator[str]:
    """The balance of the classes, and how well each is recognised."""
    assert family.data
    counts = family.data.train_per_class
    accuracies = member.class_accuracies or (None,) * len(counts)
    rows = list(zip(family.classes, counts, family.data.test_per_class, accuracies, strict=True))
    ratio = max(counts) / max(1, min(counts))
    if ratio > 1:
        yield f"The largest class has {ratio:.3g} times as many training images as the smallest."
    else:
        yield "All classes have equally many training images."
    known = [row for row in rows if row[3] is not None]
    if known:
        worst = min(known, key=lambda row: row[3] or 0.0)
        best = max(known, key=lambda row: row[3] or 0.0)
        yield (
            f"{_cell(worst[0])} is recognised worst ({_share(worst)}), {_cell(best[0])} best "
            f"({_share(best)})" + _told_apart(worst, best)
        )
    yield ""
    if len(rows) > _LISTED and known:
        rows = sorted(known, key=lambda row: row[3] or 0.0)[:_LISTED]
        yield f"The {_LISTED} classes that are recognised worst:"
        yield ""
    elif len(rows) > _LISTED:
        return
    yield "| class | training images | test images | test accuracy |"
    yield "| --- | ---: | ---: | ---: |"
    for name, train, test, accuracy in rows:
        found = "" if accuracy is None else f"{accuracy:.1%}"
        yield f"| {_cell(name)} | {train:,} | {test:,} | {found} |"


_ClassRow = tuple[str, int, int, float | None]


def _share(row: _ClassRow) -> str:
    return f"{row[3] or 0.0:.1%} of {row[2]:,} test images"


def _told_apart(worst: _ClassRow, best: _ClassRow) -> str:
    """Whether the 95 % intervals of two classes lie apart, as the end of a sentence."""
    if min(worst[2], best[2]) == 0:
        return "."
    if wilson(worst[3] or 0.0, worst[2])[1] < wilson(best[3] or 0.0, best[2])[0]:
        return ": a known bias, beyond what so many images vary by."
    return ": so few images do not show a difference between the two."


_LIMITS = """\
## Intended use and limits

It is meant for images like those it was trained on, of exactly one of its classes each. It answers
with one of them for any image, even for one that shows none; its probabilities were not
calibrated. It sees the centre square at {pixels} pixels: what is smaller or at
the edge is lost. How it does on other cameras, places, times or people was not measured. Do not let
it decide alone where a mistake can hurt someone."""


def _classes(family: FamilyRecord) -> str:
    # JSON has no line breaks in strings: no name can end the indented block.
    names = json.dumps(family.classes, ensure_ascii=False)
    return f"## Classes\n\nIn the order of the logits:\n\n    {names}"


def _cell(value: str) -> str:
    """Other people's text for a table: on one line, without what Markdown or HTML would read."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_|[]#" else c for c in line)
