"""What every `model.py` has beside its network, as text: weights, preprocessing, a command."""

from __future__ import annotations

from scaling.formats import Portable

IMPORTS = ("import json", "import sys", "from pathlib import Path", "import torch")


def load() -> str:
    """Reads a safetensors file with torch alone."""
    return '''
def load(weights: str | Path = WEIGHTS) -> Model:
    """The network with the weights in a safetensors file, in evaluation mode."""
    data, model = bytearray(Path(weights).read_bytes()), Model()
    start = 8 + int.from_bytes(data[:8], "little")  # a length, a JSON header, then the tensors
    header = json.loads(data[8:start])
    for name, tensor in model.state_dict().items():
        found, kind = header[name], "I64" if tensor.dtype is torch.int64 else "F32"
        begin, end = found["data_offsets"]
        if [found["dtype"], found["shape"]] != [kind, list(tensor.shape)]:
            raise ValueError(f"{weights}: {name} must be {kind} {list(tensor.shape)}: {found}")
        values = torch.frombuffer(data[start + begin : start + end], dtype=tensor.dtype)
        tensor.copy_(values.view(tensor.shape))
    return model.eval()
'''


def preprocess(portable: Portable) -> str:
    """Turns an image file into the network's input, as `scaling.formats.Preprocessing` says."""
    network = portable.architecture
    channels, pixels = network.in_channels, network.resolution
    shape = f"1 × {channels} × {pixels} × {pixels}"
    steps = "\n".join(f"    {line}" for line in image_steps(portable))
    return f'''
def preprocess(path: str | Path) -> Tensor:
    """An image upright, over white, its centre square resized: {shape}."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path))
{steps}
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    x = pixels.view(1, {pixels}, {pixels}, {channels}).permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
'''


def image_steps(portable: Portable) -> list[str]:
    """Statements by which an upright Pillow `image` becomes the bytes that a network sees.

    They are the same in `model.py` and in the card.
    """
    given, pixels = portable.preprocessing, portable.architecture.resolution
    stored = given.stored or pixels
    white = "(v + 128) // 257"
    if given.white != 65_535:
        white = f"min(255, (v * 255 + {given.white // 2}) // {given.white})"
    filters = [f"Image.Resampling.{name.upper()}" for name in (given.square, given.resize)]
    steps = [
        'if image.mode == "F":',
        '    raise ValueError(f"{path}: its pixels are floating-point numbers")',
        'if image.mode.startswith("I"):  # 16 bits',
        f'    image = image.convert("I").point([{white} for v in range(65536)], "L")',
        "if image.has_transparency_data:",
        '    image = image.convert("RGBA")',
        '    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)',
        f'image = image.convert("{"RGB" if portable.architecture.in_channels == 3 else "L"}")',
        "(w, h), side = image.size, min(image.size)",
        "box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)",
        f"image = image.resize(({stored}, {stored}), {filters[0]}, box, 3.0)",
    ]
    if stored != pixels:
        steps.append(f"image = image.resize(({pixels}, {pixels}), {filters[1]})")
    return steps


def main(portable: Portable) -> str:
    """Runs the network on the images that a command line names."""
    top = min(5, portable.architecture.num_classes)
    return f"""
if __name__ == "__main__":
    images = sys.argv[1:] or sys.exit(f"{{__doc__}}\\nIts classes: {{', '.join(CLASSES)}}")
    network = load()
    with torch.inference_mode():
        for image in images:
            best = zip(*network(preprocess(image)).softmax(1)[0].topk({top}), strict=True)
            print(image, *(f"{{CLASSES[index]}} {{odds:.1%}}" for odds, index in best), sep="   ")
"""
