"""The recipes of scaling studies (baselines × rules × costs × seeds) and of transfers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from experiments import config
from experiments.config import BudgetConfig, Common, EvaluatorConfig, Quantity, Section
from experiments.config.value_types import Amount, CostKind, Seed, Workers
from reports import published
from scaling import rules
from scaling.coefficients import PUBLISHED, Coefficients
from scaling.compound import scale
from scaling.study_design import StudyPoint, grown, narrowed, sized, small_image_form
from space import presets
from space.architecture import Architecture
from space.files import read_text
from space.validation import InvalidInput, validate

#: The ways in which each member is trained, each a study in the storage. The last one is of the
#: networks that searches around the members find on the other images, from the members' weights.
FINE_TUNED, SCRATCH, SEARCHED = "fine-tuned", "from scratch", "searched"

#: α, β or γ.
Growth = Annotated[float, Field(gt=0, le=100)]

RuleName = Literal["compound", "depth", "width", "resolution", "fast"]


class BaselineConfig(Section):
    """A network that is scaled."""

    name: Annotated[str, Field(pattern=r"^\w[\w .,×+()-]{0,39}$")]
    """Its name in figures and tables."""
    network: str | dict[str, Any]
    """A preset's name, the path of an `architecture.json`, or the architecture itself."""
    resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Resolution in pixels (default: the network's own)."""
    small_images: bool = False
    """Changes early strides to 1, so that the last maps keep at least 2 pixels a side."""
    divisor: Annotated[int, Field(ge=1, le=64)] | None = None
    """Channels are multiples of it (default: the network's own, mostly 8, which is coarse for
    networks with few channels)."""
    depth: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Factor by which its depth is scaled first."""
    macs: Quantity | None = None
    """Multiply–adds to which its width is then scaled (default: the width is kept)."""
    rules: tuple[RuleName, ...] = ()
    """Rules by which it grows (default: the study's)."""
    published: Literal[
        "", "efficientnet_b0", "mnasnet_a1", "mobilenet_v1", "mobilenet_v2", "resnet50"
    ] = ""
    """Network whose published results on ImageNet are drawn beside it: with `factors` how that
    network scales, with `targets` its family."""

    def build(self, num_classes: int, in_channels: int) -> Architecture:
        """The network for this number of classes and colour channels.

        Without dropout and stochastic depth: a study trains all its networks alike, and briefly.
        """
        network = self._load()
        network = replace(
            network,
            num_classes=num_classes,
            in_channels=in_channels,
            resolution=self.resolution or network.resolution,
            dropout=0.0,
            stochastic_depth=0.0,
        )
        if self.small_images:
            network = small_image_form(network)
        if self.divisor is not None:
            scaling = replace(network.scaling, divisor=self.divisor)
            network = replace(network, scaling=scaling)
        network = scale(network, depth=self.depth)
        return network if self.macs is None else narrowed(network, self.macs)

    def _load(self) -> Architecture:
        where = f"baselines: {self.name}: network"
        if isinstance(self.network, dict):
            return Architecture.from_dict(self.network, source=where)
        if not is_json(self.network):
            return presets.load(self.network)
        try:
            return read_architecture(Path(self.network))
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None


class StudyRecipe(Common, BudgetConfig):
    """A scaling study."""

    seeds: Annotated[int, Field(ge=1, le=20)] = 3
    """Training runs of each network, with consecutive seeds from `seed`."""
    baselines: Annotated[tuple[BaselineConfig, ...], Field(min_length=1)]
    """The networks that are scaled."""
    rules: Annotated[tuple[RuleName, ...], Field(min_length=1)]
    """Rules by which they grow."""
    coefficients: tuple[Growth, Growth, Growth] = (PUBLISHED.alpha, PUBLISHED.beta, PUBLISHED.gamma)
    """α, β and γ of the rule `compound`."""
    factors: tuple[Annotated[float, Field(gt=1, le=10_000)], ...] = ()
    """Factors by which each rule multiplies a baseline's MACs, to compare rules."""
    targets: tuple[Quantity, ...] = ()
    """MACs to which every baseline is scaled instead, to compare baselines."""
    best: str
    """The rule (with `factors`) or baseline (with `targets`) expected to be best at equal MACs; the
    report says whether it is."""
    metric: Literal["top1", "balanced"] = "top1"
    """Accuracy over all images, or the mean over classes."""
    processes: Workers = 1
    """Processes of this machine that train one network together, as `family.processes` of a run."""

    @model_validator(mode="after")
    def _one_design(self) -> Self:
        if bool(self.factors) == bool(self.targets):
            raise ValueError("either `factors` or `targets` must be given, and not both")
        names = [baseline.name for baseline in self.baselines]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"names of baselines must be unique, but got {min(twice)!r} twice")
        known = self.rules if self.factors else names
        if self.best not in known:
            raise ValueError(f"`best` must be one of {', '.join(known)}, but got {self.best!r}")
        printed = published.scaled if self.factors else published.family
        for each in self.baselines:
            if each.published and not printed(each.published):
                raise ValueError(
                    f"`published` of {each.name} must name a network whose "
                    f"{'scaling' if self.factors else 'family'} was published, but got "
                    f"{each.published!r}"
                )
        if self.targets and any(len(each.rules or self.rules) > 1 for each in self.baselines):
            raise ValueError("with `targets` each baseline must grow by exactly one rule")
        return self

    def points(self, num_classes: int) -> tuple[StudyPoint, ...]:
        """The networks of the study, in order of cost where rules are compared."""
        found: list[StudyPoint] = []
        coefficients = Coefficients(*self.coefficients)
        for baseline in self.baselines:
            network = baseline.build(num_classes, self.data.channels)
            names: tuple[str, ...] = baseline.rules or self.rules
            ways = {name: rules.load(name, coefficients) for name in names}
            if self.factors:
                found += grown(baseline.name, network, ways, self.factors)
            else:
                found += sized(baseline.name, network, ways, self.targets)
        return tuple(found)


class TransferRecipe(Common, BudgetConfig):
    """A transfer of a family to other images."""

    family: Path
    """Folder of the family."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 1
    """Training runs of each member, fine-tuned and from scratch, with consecutive seeds."""
    metric: Literal["top1", "balanced"] = "top1"
    """Accuracy over all images, or the mean over classes."""
    processes: Workers = 1
    """Processes of this machine that train one member together, as `family.processes` of a run."""
    fine_tuning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Learning rate of fine-tuning over that of training from scratch."""
    search_trials: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Training runs of a search around each member, at no more than its MACs, on the other images;
    what it finds is fine-tuned beside the member (0: no search)."""
    search_epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    """Epochs of each training run of that search."""

    def learning_rate_of(self, way: str) -> float:
        """The learning rate of one of the ways."""
        rate = self.train.learning_rate
        return rate if way == SCRATCH else rate * self.fine_tuning_rate


class TableFamilyConfig(Section):
    """The section `family` of a recipe on a table."""

    rule: Literal["learned"] = "learned"
    """The rule."""
    targets: Annotated[tuple[Amount, ...], Field(min_length=1)]
    """Costs of the members at most."""
    cost: CostKind = "macs"
    """Column of the table that `targets` are values of."""
    runs: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Maximum number of look-ups, over all targets together."""


class TableRecipe(Section):
    """Learned growth on a table of measured networks, which needs no images."""

    name: Annotated[str, Field(pattern=rf"^{config.RUN_NAME.pattern}$")]
    """Name of the run, and of its folder in `runs/`."""
    description: str = ""
    """What it is."""
    seed: Seed = 0
    """Seed of the search; also the place, from 0, of the accuracy that chooses."""
    evaluator: EvaluatorConfig
    """`{kind: records, records: TABLE}`, where TABLE is a CSV or JSON file."""
    family: TableFamilyConfig


def table_recipe(target: str, overrides: Sequence[str] = ()) -> TableRecipe | None:
    """The recipe called `target`, or in the folder `target`, if its records are a table."""
    saved = Path(target) / "recipe.yaml"
    source = str(saved) if saved.is_file() else target
    data = config.given(source, overrides)
    if not config.is_of_table(data):
        return None
    return validate(TableRecipe, data, source=source)


def read_recipe(path: Path) -> Common:
    """The recipe of a run, a scaling study or a transfer; raises `InvalidInput` for others."""
    data = config.given(str(path))
    if "baselines" in data:
        return config.load_as(StudyRecipe, str(path))
    if "fine_tuning_rate" in data:
        return config.load_as(TransferRecipe, str(path))
    return config.load(str(path))


def is_json(name: str) -> bool:
    """Whether the name of a network is the path of a JSON file, not that of a preset."""
    return name.lower().endswith(".json")


def read_architecture(path: Path) -> Architecture:
    """The network in a JSON file; raises `InvalidInput` if it cannot be read."""
    text = read_text(path)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"{path}: is not valid JSON ({error}); give an architecture.json, or the name of a "
            "preset (phiscale presets)"
        ) from None
    return Architecture.from_dict(data, source=str(path))
