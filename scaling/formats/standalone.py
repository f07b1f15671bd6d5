"""Standalone PyTorch: the source of a `model.py` that builds one network and needs torch alone.

Modules are called as in `space.network`, so the file loads the same weights.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from scaling.formats import Portable
from scaling.formats.classes import WIDTH, classes
from space.cost import cost


def source(portable: Portable) -> str:
    """The text of `model.py`; `docs/export.md` says what it offers."""
    modules = classes(portable.architecture)
    sections = [_head(portable, modules), *modules, _LOAD, _preprocess(portable), _MAIN]
    return "\n\n\n".join(section.strip("\n") for section in sections) + "\n"


def _lines(name: str, values: Sequence[str]) -> str:
    """A list of strings, on one line or several on each."""
    # What does not print, such as a change of direction, is escaped; nothing ends a string early.
    words = [json.dumps(value, ensure_ascii=not value.isprintable()) for value in values]
    line = f"{name} = [{', '.join(words)}]"
    if len(line) <= WIDTH and "\\" not in line:
        return line
    rows, row = [], "   "
    for word in words:
        if len(row) + len(word) + 2 > WIDTH and row.strip():
            rows.append(row)
            row = "   "
        row += f" {word},"
    return "\n".join(["# fmt: off", f"{name} = [", *rows, row, "]", "# fmt: on"])


def _head(portable: Portable, modules: Sequence[str]) -> str:
    network, given = portable.architecture, portable.preprocessing
    found = cost(network)
    functional = any("F." in module for module in modules)
    imports = [
        "import json",
        "import sys",
        *(["from collections import OrderedDict"] if network.head.hidden else []),
        "from pathlib import Path",
        "",
        "import torch",
        *(["import torch.nn.functional as F"] if functional else []),
        "from torch import Tensor, nn",
    ]
    constants = [
        'WEIGHTS = Path(__file__).with_name("model.safetensors")',
        f"RESOLUTION = {network.resolution}",
        f"MEAN, STD = {list(given.mean)}, {list(given.std)}",
        _lines("CLASSES", portable.classes),
    ]
    pixels = f"{network.resolution} × {network.resolution} pixels"
    title = (
        f"{portable.name}: {network.num_classes} classes, {pixels}, "
        f"{found.macs / 1e6:.4g}M multiply–adds, {found.params / 1e6:.3g}M parameters."
    )
    return "\n".join(
        [
            *textwrap.wrap(f'"""{title}', WIDTH),
            _USE,
            "from __future__ import annotations",
            "",
            *imports,
            "",
            *constants,
        ]
    )


FILE = "model.py"

_USE = '''
    python model.py image.png           # prints the most probable classes

    from model import load, preprocess
    logits = load()(preprocess("image.png"))

Needs torch, and Pillow to open images. Written by phiscale.
"""
'''

# ------------------------------------------------------------------------- weights and images


_LOAD = '''
def load(weights: str | Path = WEIGHTS) -> Model:
    """The network with the weights in a safetensors file, in evaluation mode."""
    data = bytearray(Path(weights).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")  # a length, a JSON header, then the tensors
    types, tensors = {"F32": torch.float32, "I64": torch.int64}, {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            tensor = torch.frombuffer(data[begin:end], dtype=types[entry["dtype"]])
            tensors[name] = tensor.reshape(entry["shape"])
    model = Model()
    model.load_state_dict(tensors)
    return model.eval()
'''


def _preprocess(portable: Portable) -> str:
    network, given = portable.architecture, portable.preprocessing
    channels, pixels = network.in_channels, network.resolution
    mode = "RGB" if channels == 3 else "L"
    stored = given.stored or pixels
    steps = f"{stored} pixels ({given.square})"
    first = "RESOLUTION, RESOLUTION" if stored == pixels else f"{stored}, {stored}"
    resizing = [
        f"    image = image.resize(({first}), Image.Resampling.{given.square.upper()}, box, 3.0)"
    ]
    if stored != pixels:
        steps += f", then to {pixels} ({given.resize})"
        filtered = f"Image.Resampling.{given.resize.upper()}"
        resizing.append(f"    image = image.resize((RESOLUTION, RESOLUTION), {filtered})")
    lines = "\n".join(resizing)
    return f'''
def preprocess(path: str | Path) -> Tensor:
    """An image file as the network's input: 1 × {channels} × {pixels} × {pixels}.

    Upright, over white where transparent; its centre square resized to
    {steps}.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point([(value + 128) // 257 for value in range(65536)], "L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    image = image.convert("{mode}")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
{lines}
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    x = pixels.reshape(1, RESOLUTION, RESOLUTION, {channels}).permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
'''


_MAIN = """
if __name__ == "__main__":
    network = load()
    for image_file in sys.argv[1:]:
        with torch.inference_mode():
            probabilities = network(preprocess(image_file)).softmax(1)[0]
        print(image_file)
        for index in probabilities.argsort(descending=True)[:5].tolist():
            print(f"  {probabilities[index].item():6.1%}  {CLASSES[index]}")
"""
