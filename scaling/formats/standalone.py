"""Standalone PyTorch: the source of a `model.py` that builds one network and needs torch alone.

Modules are called as in `space.network`, so the file loads the same weights.
"""

from __future__ import annotations

import textwrap

from scaling.formats import Portable
from scaling.formats.classes import classes
from scaling.formats.layout import WIDTH, indented, strings
from space.cost import cost


def source(portable: Portable) -> str:
    """The text of `model.py`; `docs/export.md` says what it offers."""
    parts = [*classes(portable.architecture), _LOAD, _preprocess(portable), _main(portable)]
    code = "\n\n\n".join(part.strip("\n") for part in parts)
    return f"{_head(portable, code)}\n\n\n{code}\n"


def _head(portable: Portable, code: str) -> str:
    network, given = portable.architecture, portable.preprocessing
    found = cost(network)
    imports = [
        "import json",
        "import sys",
        "from collections import OrderedDict",
        "from collections.abc import Callable",
        "from pathlib import Path",
        *(["from typing import Any"] if "Any" in code else []),
        "",
        "import torch",
        *(["import torch.nn.functional as F"] if "F." in code else []),
        "from torch import Tensor, nn",
    ]
    constants = [
        'WEIGHTS = Path(__file__).with_name("model.safetensors")',
        f"MEAN, STD = {list(given.mean)}, {list(given.std)}",
        strings("CLASSES", portable.classes),
    ]
    title = (
        f"{portable.name}: {network.num_classes} classes, "
        f"{network.resolution} × {network.resolution} pixels, "
        f"{found.macs / 1e6:.4g}M multiply–adds, {found.params / 1e6:.3g}M parameters."
    )
    return "\n".join([*textwrap.wrap(f'"""{title}', WIDTH), _USE, *imports, "", *constants])


FILE = "model.py"

_USE = '''
`python model.py image.png` prints its most probable classes, `load()(preprocess("image.png"))` are
their logits. Needs torch, and Pillow to open images. Written by phiscale.
"""
'''

# ------------------------------------------------------------------------- weights and images


_LOAD = '''
def load(weights: str | Path = WEIGHTS) -> Model:
    """The network with the weights in a safetensors file, in evaluation mode."""
    data = bytearray(Path(weights).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")  # a length, a JSON header, then the tensors
    header, model = json.loads(data[8:start]), Model()
    for name, tensor in model.state_dict().items():
        said, kind = header[name], "I64" if tensor.dtype is torch.int64 else "F32"
        (begin, end), shape = said["data_offsets"], list(tensor.shape)
        size = tensor.numel() * tensor.element_size()
        if (said["dtype"], said["shape"], end - begin) != (kind, shape, size) or begin < 0:
            raise ValueError(f"{weights}: {name} must be {kind} {shape}, but is {said}")
        values = torch.frombuffer(data[start + begin : start + end], dtype=tensor.dtype)
        tensor.copy_(values.view(shape))
    return model.eval()
'''


def _preprocess(portable: Portable) -> str:
    network, given = portable.architecture, portable.preprocessing
    channels, pixels = network.in_channels, network.resolution
    shape = f"1 × {channels} × {pixels} × {pixels}"
    stored = given.stored or pixels
    filters = [f"Image.Resampling.{name.upper()}" for name in (given.square, given.resize)]
    white = "(value + 128) // 257"
    if given.white != 65_535:
        white = f"min(255, (value * 255 + {given.white // 2}) // {given.white})"
    resizing = [f"image = image.resize(({stored}, {stored}), {filters[0]}, box, 3.0)"]
    if stored != pixels:
        resizing.append(f"image = image.resize(({pixels}, {pixels}), {filters[1]})")
    return f'''
def preprocess(path: str | Path) -> Tensor:
    """An image upright, over white, its centre square resized: {shape}."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point([{white} for value in range(65536)], "L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("{"RGB" if channels == 3 else "L"}")
    (w, h), side = image.size, min(image.size)
    box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
{indented(resizing, 4)}
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    x = pixels.view(1, {pixels}, {pixels}, {channels}).permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
'''


def _main(portable: Portable) -> str:
    top = min(5, portable.architecture.num_classes)
    return f"""
if __name__ == "__main__":
    network = load()
    for image in sys.argv[1:]:
        with torch.inference_mode():
            probabilities, order = network(preprocess(image)).softmax(1)[0].topk({top})
        print(image)
        for probability, index in zip(probabilities.tolist(), order.tolist(), strict=True):
            print(f"  {{probability:6.1%}}  {{CLASSES[index]}}")
"""
