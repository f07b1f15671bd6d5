"""How a member is used, in its model card: preprocessing, and a few lines for each format."""

from __future__ import annotations

from scaling.formats import (
    ARCHITECTURE,
    WEIGHTS,
    Portable,
    full_name,
    onnx,
    program,
    render,
    standalone,
    timm,
)
from scaling.saved_family import FamilyRecord, MemberRecord
from space.architecture import Architecture


def text(family: FamilyRecord, member: MemberRecord, network: Architecture) -> str:
    """The preprocessing, then how each exported format is loaded."""
    given, pixels = family.preprocessing, network.resolution
    stored = given.stored or pixels
    steps = f"resized to {stored} × {stored} pixels ({given.square})"
    if stored != pixels:
        steps += f", then to {pixels} × {pixels} ({given.resize})"
    scale = ""
    if given.white != 65_535:
        scale = f" Images of 16 bits are read from 0, black, to {given.white:,}, white."
        if network.in_channels == 3:
            scale += (
                " Pillow keeps only the high bytes of 16-bit colour: for such files use "
                "`phiscale predict`."
            )
    parts = [
        f"""\
## Use

An image is turned upright, laid over white where it is transparent, and made {_mode(network)}. Its
centre square is {steps}, by Pillow.
Pixels from 0 to 1, less {_numbers(given.mean)}, over {_numbers(given.std)}, for each channel, are
what the network sees; the accuracies below hold for this.{scale}"""
    ]
    if standalone.FILE in member.files:
        parts.append(_WITH_TORCH.format(file=standalone.FILE))
    portable = Portable(full_name(family.name, member.name), network, family.classes, given)
    if onnx.FILE in member.files:
        parts.append(_with_onnx(portable))
    if timm.FILE in member.files:
        parts.append(_WITH_TIMM.format(name=portable.identifier))
    if program.FILE in member.files:
        parts.append(_WITH_PROGRAM.format(file=program.FILE))
    shape = f"N × {network.in_channels} × {pixels} × {pixels}"
    parts.append(_WITH_PHISCALE.format(name=member.name, shape=shape))
    return "\n\n".join(part.strip() for part in parts)


def _mode(network: Architecture) -> str:
    return "RGB" if network.in_channels == 3 else "L"


_WITH_TORCH = """
**PyTorch**, with torch and Pillow alone; `python {file} image.png` prints the top classes:

```python
from model import CLASSES, load, preprocess

logits = load()(preprocess("image.png"))
print(CLASSES[logits.argmax()])
```
"""

_WITH_TIMM = """
**timm**, from this folder; after uploading it, from `hf-hub:USER/REPOSITORY`:

```python
import timm, timm_model  # which tells timm of {name}
from model import CLASSES, preprocess

network = timm.create_model("{name}", pretrained=True).eval()
print(CLASSES[network(preprocess("image.png")).argmax()])
```
"""

_WITH_PROGRAM = """
**torch.export**, without the network's code (loading a program can run arbitrary code, so load only
programs you trust):

```python
import torch
from model import CLASSES, preprocess

network = torch.export.load("{file}").module()
print(CLASSES[network(preprocess("image.png")).argmax()])
```
"""

_WITH_PHISCALE = f"""
**phiscale**, from the family's folder, every file checked against its hash in family.json:

```python
from scaling.saved_family import load_family

member = load_family("path/to/family")["{{name}}"]
network = member.load()  # torch, on the CPU, in evaluation mode
logits = network(images)  # {{shape}}, preprocessed
```

`{ARCHITECTURE}` describes the network, `{WEIGHTS}` holds its weights, and `{timm.CONFIG}` the
preprocessing and the classes.
"""


def _with_onnx(portable: Portable) -> str:
    given, network = portable.preprocessing, portable.architecture
    pixels, steps = network.resolution, render("image.py.jinja", given=given, network=network)
    return f"""
**ONNX**, with onnxruntime ({onnx.OLDEST_RUNTIME} or later) and Pillow alone:

```python
import json, sys
import numpy, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{onnx.FILE}")
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
path = sys.argv[1]
image = ImageOps.exif_transpose(Image.open(path))
{steps.strip()}
pixels = numpy.asarray(image, "float32").reshape({pixels}, {pixels}, {network.in_channels}) / 255
images = ((pixels - {list(given.mean)}) / {list(given.std)}).transpose(2, 0, 1)[None]
(logits,) = session.run(None, {{"images": images.astype("float32")}})
print(classes[logits.argmax()])
```
"""


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
