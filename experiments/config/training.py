"""The sections `start` and `train`, and the budget of a stage's training runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.config.value_types import (
    Epochs,
    Fraction,
    NonNegative,
    Positive,
    Scale,
    Section,
)


class StartConfig(Section):
    """The weights that every training run starts from: those of search, grid and family alike."""

    weights: str | None = None
    """A file of weights (torchvision's, timm's, EfficientNet-PyTorch's or phiscale's); another run
    with a family (`RUN`: its largest member; `RUN:b1`); `hf-hub:timm/NAME`; or `torchvision/NAME`.
    Default: fresh weights."""
    architecture: str | None = None
    """Network of these weights: a preset, a network of `phiscale convert`, or an
    architecture.json. Default: recognised by its tensors."""

    @model_validator(mode="after")
    def _weights_given(self) -> Self:
        if self.architecture is not None and self.weights is None:
            raise ValueError("weights: required where `architecture` is given")
        return self


class TrainConfig(Section):
    """How every network of the run is trained. Training runs differ in their budget alone."""

    optimizer: Literal["sgd", "rmsprop", "rmsprop_tf", "adamw"] = "sgd"
    """`rmsprop_tf` adds epsilon inside the square root, as TensorFlow does."""
    batch_size: Annotated[int, Field(ge=2, le=10**6)] = 64
    """Maximum number of images per step. An epoch is divided into steps of equal size."""
    learning_rate: Positive = 0.8
    """Peak learning rate for 256 images per step; it is scaled linearly to the actual number. The
    default suits SGD; RMSprop and AdamW need about 0.02."""
    momentum: Fraction = 0.9
    """Momentum of SGD and RMSprop, and the first beta of AdamW."""
    weight_decay: NonNegative = 5e-4
    """Weight decay. Batch norm and biases are excluded."""
    schedule: Literal["cosine", "linear", "exponential"] = "cosine"
    """`cosine` and `linear` decay to zero; `exponential` decays in steps."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up, limited to a quarter of the training run."""
    decay_rate: Scale = 0.97
    """Factor of one step of the exponential decay."""
    decay_epochs: Positive = 2.4
    """Epochs between two steps of the exponential decay."""
    label_smoothing: Fraction = 0.1
    """Probability that is spread evenly over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: an image of a rare class weighs more in the loss, so that all classes count
    equally. The metric stays `objective.metric`."""
    ema_decay: Fraction = 0.9999
    """Decay of the averaged weights, with which accuracy is measured. The decay is warmed up. 0: no
    averaging."""
    crop: Literal["none", "pad", "resized"] = "pad"
    """`pad`: random shift by an eighth of the side; `resized`: random resized crop."""
    flip: bool = True
    """Random horizontal flip."""
    resolutions: tuple[Scale, Scale] = (1.0, 1.0)
    """Resolution in the first and in the last epoch, as fractions of the network's; it changes
    linearly in between (progressive resizing). Accuracy is always measured at the network's
    resolution."""
    colour: Fraction = 0.0
    """Maximum relative change of brightness, contrast and saturation."""
    randaugment: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Magnitude of one random colour change and one random shape change per image. 0: none."""
    mixup: NonNegative = 0.0
    """Parameter of the Beta distribution by which two images are blended. 0: none."""
    cutmix: NonNegative = 0.0
    """The same for a box of one image pasted into another. If `mixup` is set too, each step uses
    one of both at random."""
    clip_norm: Positive | None = None
    """Maximum gradient norm. Default: no clipping."""
    checkpoint_seconds: NonNegative = 60.0
    """Minimum seconds between two checkpoints. Checkpoints are written at the end of an epoch."""


class BudgetConfig(Section):
    """The budget of one training run."""

    epochs: Epochs
    """Passes over the training images."""
    data_fraction: Scale = 1.0
    """Fraction of the training images that is used."""
