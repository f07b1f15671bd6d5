"""The section `train`, and what a stage may spend on a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from experiments.config.value_types import Fraction, Scale, Section


class TrainConfig(Section):
    """How every network of the run is trained; only the budget differs between trainings."""

    optimizer: Literal["sgd", "rmsprop", "rmsprop_tf", "adamw"] = "sgd"
    """`rmsprop_tf` has epsilon inside the root, as TensorFlow's."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images per step, at most: an epoch is divided into equal steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.8
    """Peak rate for 256 images a step, in proportion to those of a step. The default is SGD's;
    RMSprop and AdamW need about 0.02."""
    momentum: Fraction = 0.9
    """Of SGD and RMSprop; AdamW's first beta."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Not applied to batch norm and biases."""
    schedule: Literal["cosine", "linear", "exponential"] = "cosine"
    """Cosine or line to zero, or a stepwise exponential decay."""
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
    resolutions: tuple[Scale, Scale] = (1.0, 1.0)
    """Pixels in the first and the last epoch, as parts of the network's resolution, at which it is
    measured in any case; in between they change evenly (progressive resizing)."""
    colour: Fraction = 0.0
    """Most by which brightness, contrast and saturation are changed, as a part of what they are."""
    randaugment: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Magnitude of one random change of colour and one of shape in every image; 0: none."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Parameter of the Beta distribution by which two images are blended; 0: none."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """The same for a box of one image in another; with `mixup` too, each step draws one of both."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest gradient norm; none: no clipping."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """A training writes a checkpoint after an epoch when the last is this old."""


class BudgetConfig(Section):
    """How much one training may spend."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used."""
