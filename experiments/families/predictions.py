"""Stores the predictions of a family's members for the test images, for reports and model cards.

predictions/NAME.parquet           image, label, predicted (class indices), probability of that
predictions/files.json             what the source calls each test image, in order
predictions/images.npz             index (M) and pixels (M × side × side × channels, uint8) of the
                                   test images that a report shows
predictions/activation_maps.npz    index (K) of some of them, and each member's maps (K × h × w)
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from experiments.data.images import Images, Indices
from experiments.families.cam import activation_maps
from experiments.training.augment import normalise, resize
from experiments.training.learner import mixed_precision
from experiments.training.readers import Kept, open_reader
from space.convert import IMAGENET, PixelStatistics
from space.files import write_file
from space.network import Network

#: Images classified at a time (assumed: takes little memory, and is hardly slower than more).
_BATCH = 128
#: Wrong answers kept of each member, the most confident ones, and images with activation maps.
_CONFUSED, _MAPPED = 12, 6
#: The largest side of a kept image in pixels.
_SIDE = 96


@dataclass
class Predictions:
    """Records the predictions of a family's networks for the images `test`, member by member.

    `folder` is the run's folder of predictions; the networks run on `device`; `names` are the data
    source's names of the images.
    """

    folder: Path
    test: Images
    device: torch.device
    names: tuple[str, ...] = ()
    normalisation: PixelStatistics = IMAGENET
    _shown: set[int] = field(default_factory=set)
    _maps: dict[str, NDArray[np.float16]] = field(default_factory=dict)

    def add(self, name: str, network: Network) -> None:
        """Writes NAME.parquet, and keeps what `write_images` will show of the network."""
        self._shown |= set(confused(self.record(name, network), _CONFUSED))
        self._maps[name] = self._mapped(network)

    def record(self, name: str, network: Network) -> pa.Table:
        """Writes NAME.parquet, unless it already holds the predictions of these weights."""
        path = self.folder / f"{name}.parquet"
        weights = hashlib.sha256(save(network.state_dict())).hexdigest()
        table = _kept(path, weights)
        network.to(self.device).eval()
        if table is None:
            table = self._predict(network).replace_schema_metadata({"weights": weights})
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            write_file(path, sink.getvalue().to_pybytes())
        return table

    def write_images(self) -> None:
        """Writes the images that a report shows, the names of all images, and activation maps."""
        write_file(self.folder / "files.json", json.dumps(self.names))
        mapped = spread(self.test.labels, _MAPPED)
        index = np.array(sorted(self._shown | set(mapped.tolist())), dtype=np.int64)
        pixels = resize(
            torch.from_numpy(self.test.read(index)), min(_SIDE, self.test.resolution)
        ).numpy()
        _write_arrays(self.folder / "images.npz", index=index, pixels=pixels)
        _write_arrays(self.folder / "activation_maps.npz", index=mapped, **self._maps)

    @torch.inference_mode()
    def _predict(self, network: Network) -> pa.Table:
        read = open_reader(self.test, self.device, network.architecture.resolution, Kept())
        answers = []
        for pixels in read(torch.split(torch.arange(len(self.test)), _BATCH)):
            with mixed_precision(self.device):
                logits = network(normalise(pixels.permute(0, 3, 1, 2), self.normalisation))
            answers.append(logits.float().softmax(1).max(1))
        return pa.table(
            {
                "image": np.arange(len(self.test), dtype=np.int32),
                "label": self.test.labels.astype(np.int32),
                "predicted": _joined([answer.indices for answer in answers]).astype(np.int32),
                "probability": _joined([answer.values for answer in answers]),
            }
        )

    def _mapped(self, network: Network) -> NDArray[np.float16]:
        index = spread(self.test.labels, _MAPPED)
        pixels = torch.from_numpy(self.test.read(index))
        seen = resize(pixels, network.architecture.resolution).permute(0, 3, 1, 2)
        labels = torch.from_numpy(self.test.labels[index])
        inputs = normalise(seen.to(self.device), self.normalisation)
        return activation_maps(network, inputs, labels.to(self.device)).astype(np.float16)


def _joined(tensors: list[torch.Tensor]) -> NDArray[Any]:
    found: NDArray[Any] = torch.cat(tensors).cpu().numpy()
    return found


def confused(predictions: pa.Table, most: int) -> list[int]:
    """The images with a wrong answer, the most confident first, at most `most` of them."""
    label, predicted, probability = (
        predictions[name].to_numpy() for name in ("label", "predicted", "probability")
    )
    wrong = np.flatnonzero(label != predicted)
    surest = wrong[np.argsort(-probability[wrong], kind="stable")[:most]]
    return [int(image) for image in surest]


def spread(labels: Indices, most: int) -> Indices:
    """The first image of each of at most `most` classes, evenly spread over all classes."""
    classes, first = np.unique(labels, return_index=True)
    chosen = np.linspace(0, len(classes) - 1, min(most, len(classes))).round().astype(int)
    images: Indices = first[chosen].astype(np.int64)
    return images


def _kept(path: Path, weights: str) -> pa.Table | None:
    """The predictions in `path`, if they are those of `weights`."""
    if not path.is_file():
        return None
    table = pq.read_table(path)
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    return table if metadata.get(b"weights") == weights.encode() else None


def _write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_file(path, buffer.getvalue())
