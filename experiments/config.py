"""The recipe: one YAML file that says a whole run, checked key by key.

Every key has the unit in its description; whatever is wrong is refused with the file, the key,
what must hold, what was found, and the nearest valid name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from space.validation import InvalidInput, one_of, validate

RUN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)

_MULTIPLES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def _quantity(value: Any) -> Any:
    """`40M` as 40000000; anything that is not a count with a suffix is left to pydantic."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([\d.]+)\s*([KMGBT]?)\s*", value, re.IGNORECASE)
        if match:
            return round(float(match[1]) * _MULTIPLES[match[2].upper()])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


#: A count that may be written 40M, 1.5G or 4e7.
Quantity = Annotated[int, BeforeValidator(_quantity), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataConfig(_Section):
    """Where images come from and how they are divided."""

    source: str = "glyphs"
    """`glyphs` (built in), or the path of a folder tree, Parquet files, or an .npz file."""
    format: Literal["auto", "glyphs", "folder", "parquet", "npz"] = "auto"
    """How to read `source`; `auto` recognises it."""
    resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Pixels at which images are stored; none: the largest that the recipe can need."""
    channels: Literal[1, 3] = 3
    """Colour channels: 3 (RGB) or 1 (grey)."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=1)] = 0.1
    """The part of the training images, as a fraction or a count, that measures the search."""
    return_held_out: bool = True
    """Whether the family trains on the held-out part too."""
    test: Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=1)] = 0.1
    """The part of the images set aside as a test set, where the source has none."""
    max_bad: Fraction = 0.01
    """The fraction of unreadable files above which the run stops."""
    max_pixels: Quantity = 50_000_000
    """Pixels above which an image is refused before it is decoded."""
    cache: Path | None = None
    """Folder of the decoded images; none: `phiscale` in the user's cache folder."""
    cache_limit: Quantity = 8_000_000_000
    """Bytes above which compressed images are kept instead of decoded ones."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only this many training images, evenly from all classes; none: all."""
    glyphs: GlyphsConfig = Field(default_factory=lambda: GlyphsConfig())
    """The built-in set's size and difficulty."""


class GlyphsConfig(_Section):
    """The built-in synthetic set: characters drawn with the fonts that matplotlib ships."""

    classes: Annotated[int, Field(ge=2, le=36)] = 10
    """Characters to tell apart: the first of A…Z, then 0…9."""
    train_images: Annotated[int, Field(ge=2)] = 6000
    """Training images, over all classes."""
    test_images: Annotated[int, Field(ge=2)] = 2000
    """Test images, over all classes."""
    clutter: Annotated[int, Field(ge=0, le=20)] = 3
    """Lines drawn over a character, at most."""
    contrast: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Difference in brightness between stroke and background, at least."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Standard deviation of the pixel noise, of a full range of 1."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the images; the same seed gives the same set."""


class TrainConfig(_Section):
    """How every network of the run is trained; only the budget differs between trainings."""

    optimizer: Literal["sgd", "rmsprop", "rmsprop_tf", "adamw"] = "sgd"
    """`rmsprop_tf` has epsilon inside the root, as TensorFlow's."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Peak rate for 256 images a step; it is scaled in proportion to `batch_size`."""
    momentum: Fraction = 0.9
    """Of SGD and RMSprop; AdamW's first beta."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Not applied to batch norm and biases."""
    schedule: Literal["cosine", "exponential"] = "cosine"
    """Cosine to zero, or a stepwise exponential decay."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs of linear warm-up, at most a quarter of the training."""
    decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.97
    """Factor of one step of the exponential decay."""
    decay_epochs: Annotated[float, Field(gt=0)] = 2.4
    """Epochs between two steps of the exponential decay."""
    label_smoothing: Fraction = 0.1
    """Probability given to all classes alike."""
    ema_decay: Fraction = 0.9999
    """Decay of the averaged weights that are measured, warmed up; 0: no averaging."""
    crop: Literal["none", "pad", "resized"] = "pad"
    """Random shift by an eighth, or random resized crop, or neither."""
    flip: bool = True
    """Random horizontal flip."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest gradient norm; none: no clipping."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """A training writes a checkpoint after an epoch when the last is this old."""


class Bounds(_Section):
    """Hard bounds on the exact cost, both ends included."""

    macs: tuple[Quantity, Quantity] | None = None
    """Least and most multiply–adds at the run's resolution."""
    params: tuple[Quantity, Quantity] | None = None
    """Least and most parameters."""
    activations: tuple[Quantity, Quantity] | None = None
    """Least and most elements of convolution outputs."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("macs", "params", "activations"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: `least <= most` must hold, but got {list(pair)}")
        return self


class ObjectiveConfig(_Section):
    """The reward: accuracy · (cost / target)^w (MnasNet, section 3.1)."""

    metric: Literal["top1", "balanced"] = "top1"
    """Accuracy over all images, or the mean over classes."""
    cost: Literal["macs", "params", "activations"] = "macs"
    """Which cost enters the reward."""
    target: Quantity
    """T, in units of `cost`."""
    exponent_below: Annotated[float, Field(le=0)] = -0.07
    """w where cost <= target."""
    exponent_above: Annotated[float, Field(le=0)] = -0.07
    """w where cost > target."""
    bounds: Bounds = Bounds()
    """Candidates outside are rejected before training."""


class BudgetConfig(_Section):
    """How much one training may spend."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used."""


class PrunerConfig(_Section):
    """Which unpromising trainings end early, judged on the reward after each epoch."""

    kind: Literal["none", "median", "hyperband"] = "median"
    """Optuna's pruner."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs before the first judgement."""
    startup_trials: Annotated[int, Field(ge=0)] = 5
    """Finished trials before the median pruner judges."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Hyperband's reduction factor."""


class SearchConfig(BudgetConfig):
    """Stage 1: find the baseline."""

    trials: Annotated[int, Field(ge=1)]
    """Finished trainings (complete or pruned)."""
    sampler: str = "tpe"
    """Which sampler proposes candidates."""
    pruner: PrunerConfig = PrunerConfig()
    """Early stopping of trials."""
    finalists: Annotated[int, Field(ge=1)] = 5
    """The best candidates that are trained longer to choose the winner (MnasNet took 15)."""
    final_epochs: Annotated[int, Field(ge=1)]
    """Epochs of a finalist's training."""


class CoefficientsConfig(_Section):
    """Stage 2: the grid search for α (depth), β (width) and γ (resolution)."""

    alpha: Annotated[float, Field(ge=1)] | None = None
    """Pins α; with β and γ pinned too, the stage is skipped."""
    beta: Annotated[float, Field(ge=1)] | None = None
    """Pins β."""
    gamma: Annotated[float, Field(ge=1)] | None = None
    """Pins γ."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Distance of two grid values of one coefficient."""
    tolerance: Annotated[float, Field(ge=0)] = 0.1
    """Largest |α·β²·γ² − factor|."""
    factor: Annotated[float, Field(gt=1)] = 2.0
    """What one step of φ multiplies MACs by."""
    phi: Annotated[float, Field(ne=0)] = 1.0  # type: ignore[call-arg]
    """The φ at which candidates are compared."""
    epochs: Annotated[int, Field(ge=1)] = 5
    """Epochs of one candidate's training."""
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used."""

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        pinned = [name for name in ("alpha", "beta", "gamma") if getattr(self, name) is not None]
        if len(pinned) in (1, 2):
            raise ValueError(f"alpha, beta and gamma are pinned together or not at all, but got {pinned}")
        return self

    @property
    def pinned(self) -> bool:
        """Whether the recipe gives α, β and γ, so that there is nothing to search."""
        return self.alpha is not None


class FamilyConfig(BudgetConfig):
    """Stage 3: scale the baseline, train and export the members."""

    phi: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)
    """One member each, in this order: b0, b1 …; fractions and negatives are allowed."""
    targets: tuple[Quantity, ...] = ()
    """MACs to hit instead, one member each; φ follows from them."""
    multiple: Annotated[int, Field(ge=1)] = 1
    """Resolutions are multiples of this many pixels."""

    @model_validator(mode="after")
    def _some_member(self) -> Self:
        if not self.phi and not self.targets:
            raise ValueError("the family needs at least one value in `phi` or in `targets`")
        return self


class ExecutorConfig(_Section):
    """Where trainings run."""

    kind: Literal["local"] = "local"
    """`local`: one after the other in this process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of a training; none: all cores."""


class Recipe(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=rf"^{RUN_NAME.pattern}$")]
    """The run's name, and its folder under `runs/`."""
    description: str = ""
    """One line for `phiscale recipes`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Everything random follows from it."""
    storage: str | None = None
    """URL of an Optuna storage; none: `study.db` in the run's folder."""
    space: str
    """Name of a shipped space, or path of a YAML file."""
    resolution: Annotated[int, Field(ge=8, le=4096)]
    """Pixels at which the baseline is searched."""
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    objective: ObjectiveConfig
    search: SearchConfig
    coefficients: CoefficientsConfig = CoefficientsConfig()
    family: FamilyConfig
    executor: ExecutorConfig = ExecutorConfig()
