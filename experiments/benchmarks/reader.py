"""Images per second that one core reads, as the recipe keeps them: compressed, or decoded once.

    python -m experiments.benchmarks.reader ../shared/data/clothing

Photos are written as JPEG files of 500 × 375 pixels, the size of most of ImageNet's, and read at
several resolutions: decoded whole, decoded by `Image.draft` to a part where that leaves enough
pixels (`decode_fitted`, what a run does above `data.cache_limit`), and from the decoded cache (a
run below it). Seconds are the processor's, of one thread, so that other work disturbs them little.
"""

from __future__ import annotations

import io
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import PIL
import typer
from PIL import Image

from experiments.benchmarks.cost import hardware
from experiments.data.decode import decode, decode_fitted, fit
from experiments.data.images import DecodedImages
from space.files import write_file

RESULT = Path(__file__).parents[1] / "results" / "reader.json"
SIZE, QUALITY = (500, 375), 90
RESOLUTIONS = (64, 128, 224)
IMAGES, REPEATS, SEED = 200, 5, 0


def main(
    folder: Annotated[Path, typer.Argument(help="Photos: any tree of JPEG files.")],
    result: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULT,
) -> None:
    """Measures each way at each resolution, prints a table, and writes the result."""
    files = sorted(folder.rglob("*.jpg"))
    drawn = np.random.default_rng(SEED).permutation(len(files))[:IMAGES]
    photos = [_jpeg(files[index]) for index in drawn]
    rates = {}
    for resolution in RESOLUTIONS:
        rates[resolution] = measured(photos, resolution)
        shown = (f"{name} {rate:,.0f}" for name, rate in rates[resolution].items())
        print(f"{resolution} pixels: {', '.join(shown)} images/s")
    found = {
        "command": "python -m experiments.benchmarks.reader",
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), "pillow": PIL.__version__},
        "setting": {"size": SIZE, "quality": QUALITY, "images": len(photos), "seed": SEED},
        "images_per_second": rates,
    }
    write_file(result, json.dumps(found, indent=1) + "\n")


def measured(photos: list[bytes], resolution: int) -> dict[str, float]:
    """Images per second of one core, the median of `REPEATS`, by how they are read."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "pixels.npy"
        np.save(kept, np.stack([decode_fitted(photo, 3, resolution) for photo in photos]))
        every = np.random.default_rng(SEED).permutation(len(photos))
        decoded = DecodedImages(np.load(kept, mmap_mode="r"), np.arange(len(photos)), every)
        ways: dict[str, Callable[[], object]] = {
            "decoded whole": lambda: [fit(decode(photo, 3), resolution) for photo in photos],
            "decoded by draft": lambda: [decode_fitted(photo, 3, resolution) for photo in photos],
            "from the decoded cache": lambda: decoded.read(every),
        }
        return {
            name: len(photos) / median(_seconds(read) for _ in range(REPEATS))
            for name, read in ways.items()
        }


def _seconds(read: Callable[[], object]) -> float:
    start = time.process_time()
    read()
    return time.process_time() - start


def _jpeg(file: Path) -> bytes:
    """A photo as a JPEG file of `SIZE`."""
    with Image.open(file) as image:
        content = io.BytesIO()
        image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(
            content, "JPEG", quality=QUALITY
        )
        return content.getvalue()


if __name__ == "__main__":
    typer.run(main)
