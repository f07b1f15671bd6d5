"""The recipe: one YAML file that says a whole run, checked key by key.

Every key has the unit in its description; whatever is wrong is refused with the file, the key,
what must hold, what was found, and the nearest valid name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scaling import rules
from space import presets
from space.validation import InvalidInput, one_of, validate

RUN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)

_MULTIPLES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def quantity(value: Any) -> Any:
    """`40M` as 40000000; anything that is not a count with a suffix is left to pydantic."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([\d.]+)\s*([KMGBT]?)\s*", value, re.IGNORECASE)
        if match:
            return round(float(match[1]) * _MULTIPLES[match[2].upper()])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


#: A count that may be written 40M, 1.5G or 4e7.
Quantity = Annotated[int, BeforeValidator(quantity), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(gt=0, le=1)]


def _share(value: float) -> float:
    if value >= 1 and not value.is_integer():
        raise ValueError(f"a fraction below 1 or a whole count is needed, but got {value}")
    return value


def _workers(value: int | str) -> int | str:
    if value != "auto" and (isinstance(value, str) or value < 1):
        raise ValueError(f"`auto` or a count of at least 1 is needed, but got {value!r}")
    return value


#: A part of the images: a fraction where below 1, else a count.
Share = Annotated[float, Field(gt=0), AfterValidator(_share)]


def _kind(value: Any) -> Any:
    """A section whose kind alone is given."""
    return {"kind": value} if isinstance(value, str) else value


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataConfig(Section):
    """Where images come from and how they are divided."""

    source: str = "glyphs"
    """`glyphs` (built in), or the path of a folder tree, Parquet files, or an .npz file."""
    format: Literal["auto", "glyphs", "folder", "parquet", "npz"] = "auto"
    """How to read `source`; `auto` recognises it."""
    resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Pixels at which images are stored at most; none: the largest that the recipe can need."""
    channels: Literal[1, 3] = 3
    """Colour channels: 3 (RGB) or 1 (grey)."""
    held_out: Share = 0.1
    """The part of the training images, as a fraction or a count, that measures the search."""
    return_held_out: bool = True
    """Whether the family trains on the held-out part too."""
    test: Share = 0.1
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


class GlyphsConfig(Section):
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
    noise: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Standard deviation of the pixel noise, of a full range of 1."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the images; the same seed gives the same set."""


class EvaluatorConfig(Section):
    """What measures the networks of the search: trainings, or records of trainings made before."""

    kind: Literal["train", "records"] = "train"
    """`train`: train them on `data`; `records`: look them up, which needs no images. Records know
    the networks of one space alone, so that coefficients and family need trainings."""
    records: Path | None = None
    """The records: the archive of Accel-NASBench, as it is published."""
    surrogate: Literal["none", "gaussian_process", "boosting", "mean"] = "mean"
    """What predicts networks that are not recorded; `none`: these fail; `mean`: of both models."""
    noise: Fraction = 0.0
    """Standard deviation added to predicted accuracies, as a fraction; 0.003 is realistic."""


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


def _amount(value: Any) -> Any:
    """`5ms` as 0.005; anything else as a count."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([\d.]+)\s*(s|ms|us|µs)\s*", value)):
        return float(match[1]) * _SECONDS[match[2]]
    return quantity(value)


_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}

#: A latency in seconds that may be written 5ms, or 800us.
Seconds = Annotated[float, BeforeValidator(_amount), Field(gt=0)]
#: A count or a latency.
Amount = Annotated[int | float, BeforeValidator(_amount), Field(gt=0)]

CostKind = Literal["macs", "params", "activations", "latency"]


class Bounds(Section):
    """Hard bounds on the exact cost, both ends included."""

    macs: tuple[Quantity, Quantity] | None = None
    """Least and most multiply–adds at the run's resolution."""
    params: tuple[Quantity, Quantity] | None = None
    """Least and most parameters."""
    activations: tuple[Quantity, Quantity] | None = None
    """Least and most elements of convolution outputs."""
    latency: tuple[Seconds, Seconds] | None = None
    """Least and most seconds, by the latency table; `5ms` may be written."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in get_args(CostKind):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: `least <= most` must hold, but got {list(pair)}")
        return self


class ObjectiveConfig(Section):
    """The reward: accuracy · (cost / target)^w (MnasNet, section 3.1); or several objectives."""

    metric: Literal["top1", "balanced"] = "top1"
    """Accuracy over all images, or the mean over classes."""
    cost: CostKind = "macs"
    """Which cost enters the reward."""
    target: Amount
    """T, in units of `cost`: a count, or seconds, which may be written `5ms`."""
    exponent_below: Annotated[float, Field(le=0)] = -0.07
    """w where cost <= target."""
    exponent_above: Annotated[float, Field(le=0)] = -0.07
    """w where cost > target."""
    bounds: Bounds = Bounds()
    """Candidates outside are rejected before training."""
    pareto: tuple[CostKind, ...] = ()
    """Costs that are minimised beside accuracy: the search then looks for a Pareto front, and the
    reward only chooses the baseline from it. Not with a pruner."""
    latency_table: Path | None = None
    """What `latency` means: the table that `phiscale latency SPACE --build-table FILE` measured."""

    @model_validator(mode="after")
    def _meant(self) -> Self:
        latency = "latency" in (self.cost, *self.pareto) or self.bounds.latency is not None
        if latency and self.latency_table is None:
            raise ValueError(
                "latency_table: must name a table where latency is a cost; measure one with "
                "phiscale latency SPACE --resolution N --build-table FILE"
            )
        if "latency" in self.pareto and self.bounds.latency is None:
            raise ValueError(
                "bounds.latency: least and most seconds are needed where `pareto` names latency, "
                "since a hypervolume needs an end"
            )
        if len(set(self.pareto)) < len(self.pareto):
            raise ValueError(f"pareto: costs must differ, but got {list(self.pareto)}")
        if self.cost != "latency" and self.target != int(self.target):
            raise ValueError(f"target: must be a whole number of {self.cost}, got {self.target}")
        return self


class BudgetConfig(Section):
    """How much one training may spend."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training images."""
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used."""


class PrunerConfig(Section):
    """Which unpromising trainings end early, judged on the reward after each epoch."""

    kind: Literal["none", "median", "hyperband", "asha"] = "median"
    """Optuna's pruner; on Ray, `asha` is Ray Tune's scheduler."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs before the first judgement."""
    startup_trials: Annotated[int, Field(ge=0)] = 5
    """Finished trials before the median pruner judges."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Hyperband's and ASHA's reduction factor: one in so many goes on."""


class SearchConfig(BudgetConfig):
    """Stage 1: find the baseline."""

    trials: Annotated[int, Field(ge=1)]
    """Finished trainings (complete or pruned)."""
    sampler: str = "predictor"
    """Which sampler proposes candidates: predictor, tpe, tpe_multivariate, evolution, local,
    controller, nsga2, nsga3, gp, random or brute_force."""
    warm_start: tuple[str, ...] = ()
    """Earlier searches (run folders or storage URLs) and files of records that the sampler
    `predictor` learns from, also of other data; the space must offer the same choices. They are
    read once, when the search begins. No other sampler can use them."""
    pruner: PrunerConfig = PrunerConfig()
    """Early stopping of trials."""
    finalists: Annotated[int, Field(ge=1)] = 5
    """The best candidates that are trained longer to choose the winner (MnasNet took 15)."""
    final_epochs: Annotated[int, Field(ge=1)]
    """Epochs of a finalist's training."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds without the end of an epoch after which a training of any stage hangs, and fails;
    none: never."""


class CoefficientsConfig(Section):
    """Stage 2: the grid search for α (depth), β (width) and γ (resolution)."""

    alpha: Annotated[float, Field(ge=1)] | None = None
    """Pins α; with β and γ pinned too, the stage is skipped."""
    beta: Annotated[float, Field(ge=1)] | None = None
    """Pins β."""
    gamma: Annotated[float, Field(ge=1)] | None = None
    """Pins γ."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Distance of two grid values of one coefficient."""
    tolerance: Annotated[float, Field(ge=0)] = 0.2
    """How far from `factor` a candidate may be: its MACs over the baseline's, or where `constraint`
    is `nominal` its α·β²·γ²."""
    factor: Annotated[float, Field(gt=1)] = 2.0
    """What one step of φ multiplies MACs by."""
    phi: float = 1.0
    """The φ at which candidates are compared: above 1 around a larger network, which the paper
    notes to be better where affordable, below 0 around a smaller one; not 0."""
    compare_phi: float | None = None
    """Another φ at which the same grid is trained, to see whether its answer carries over."""
    constraint: Literal["realised", "equal_cost", "nominal"] = "realised"
    """Whether the MACs after rounding must be near `factor` for each step of φ, or, as in the
    paper, α·β²·γ²; `equal_cost` chooses γ's pixels so that all candidates cost alike."""
    method: Literal["grid", "race"] = "grid"
    """`grid` trains every candidate alike; `race` trains the better ones longer, with several
    seeds, until the best is told apart."""
    seeds: Annotated[int, Field(ge=2, le=20)] = 3
    """Seeds of each of a race's finalists, at most."""
    epochs: Annotated[int, Field(ge=1)] = 5
    """Epochs of one candidate's training."""
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used."""

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        pinned = [name for name in ("alpha", "beta", "gamma") if getattr(self, name) is not None]
        if len(pinned) in (1, 2):
            rule = "alpha, beta and gamma are pinned together or not at all"
            raise ValueError(f"{rule}, but got only {' and '.join(pinned)}")
        return self

    @model_validator(mode="after")
    def _grown(self) -> Self:
        if 0 in (self.phi, self.compare_phi):
            raise ValueError("at φ = 0 all candidates are the baseline; choose another phi")
        if self.compare_phi == self.phi:
            raise ValueError(f"compare_phi must be another φ than phi, but both are {self.phi:g}")
        if self.compare_phi is not None and self.method != "grid":
            raise ValueError(
                "compare_phi needs `method: grid`: a race trains its candidates unequally"
            )
        return self

    @property
    def pinned(self) -> bool:
        """Whether the recipe gives α, β and γ, so that there is nothing to search."""
        return self.alpha is not None


class FamilyConfig(BudgetConfig):
    """Stage 3: scale the baseline, train and export the members."""

    phi: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)
    """One member each, in this order: b0, b1 …; fractions and negatives are allowed."""
    targets: tuple[Amount, ...] = ()
    """Costs to hit instead, one member each; φ follows from them. A latency may be written 5ms."""
    cost: CostKind = "macs"
    """Which cost `targets` are of; `latency` is measured, of one image, where members are
    trained."""
    rule: Literal["compound", "depth", "width", "resolution", "fast", "per_stage"] = "compound"
    """How the baseline grows to `targets`: by α, β, γ, in one dimension alone, by pycls' fast
    scaling, or `per_stage`: the best single stage at a time, made deeper or wider, each step chosen
    by trainings like those of the coefficients."""
    multiple: Annotated[int, Field(ge=1)] = 1
    """Resolutions are multiples of this many pixels."""
    rivals: tuple[str, ...] = ()
    """Trained and tested beside the family, for the report to compare: rules of growth (depth,
    width, resolution, fast, compound), each at the members' MACs, and presets, each as it is."""
    processes: Annotated[int | str, AfterValidator(_workers)] = 1
    """Processes of this machine that train one member together, each with its part of every batch;
    `auto`: one per GPU, or CPU core. With more than one, members are trained one by one."""

    @model_validator(mode="after")
    def _known_rivals(self) -> Self:
        known = [*rules.NAMES, *presets.names()]
        for name in self.rivals:
            if name not in known:
                raise ValueError(str(one_of("rivals", name, known)))
            if name == self.rule:
                raise ValueError(f"rivals: the family itself grows by the rule {name!r}")
        return self

    @model_validator(mode="after")
    def _some_member(self) -> Self:
        if not self.phi and not self.targets:
            raise ValueError("the family needs at least one value in `phi` or in `targets`")
        if self.rule != "compound" and not self.targets:
            raise ValueError(f"the rule {self.rule!r} needs `targets`: it has no φ to grow by")
        if self.cost != "latency" and any(target != int(target) for target in self.targets):
            raise ValueError(f"targets: must be whole numbers of {self.cost}, got {self.targets}")
        if self.rule == "per_stage" and self.cost != "macs":
            raise ValueError(f"the rule 'per_stage' grows to MACs, but `cost` is {self.cost!r}")
        return self


class ExecutorConfig(Section):
    """Where trainings run."""

    kind: Literal["local", "processes", "ray"] = "local"
    """`local`: one after the other in this process; `processes`: several at a time on this machine;
    `ray`: on a Ray cluster."""
    workers: Annotated[int | str, AfterValidator(_workers)] = "auto"
    """Trainings at a time; `auto`: one per GPU, or without one as many as `threads` leaves cores
    for, or as a short measurement at the run's start finds fastest."""
    pack: Annotated[int | str, AfterValidator(_workers)] = 1
    """Trainings at a time in this process on one GPU (`kind: local`), as far as its memory is
    foreseen to hold them; `auto`: 4 on a GPU, 1 on a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of a training; none: the cores, divided among the workers."""
    address: str | None = None
    """HOST:PORT of a running Ray cluster (`kind: ray`); none: one on this machine, for the run."""
    checkpoints: str | None = None
    """Folder or fsspec URL (s3://…) of checkpoints and weights, one for all machines of a cluster;
    none: the run's folder."""
    gpus_per_trial: Annotated[float, Field(gt=0)] | None = None
    """GPUs of a training (`kind: ray`), 0.5 for two on one; none: one where the cluster has any."""

    @model_validator(mode="after")
    def _local_is_alone(self) -> Self:
        if self.kind == "local" and self.workers not in ("auto", 1):
            raise ValueError(
                "`kind: local` makes one training at a time, but got "
                f"`workers: {self.workers}`; choose `kind: processes`, or `workers: auto`"
            )
        if self.kind != "local" and self.pack != 1:
            raise ValueError(
                f"`pack` is of `kind: local`, but got `pack: {self.pack}` with `kind: {self.kind}`"
            )
        return self


class LoggingConfig(Section):
    """Where trainings are shown beside the run's own storage and report."""

    tensorboard: bool = False
    """Event files for TensorBoard, in `tensorboard/` of the run's folder."""
    mlflow: str | None = None
    """An MLflow tracking URI: a server's `http://…`, or `sqlite:///mlflow.db`; none: no MLflow."""


class Common(Section):
    """What recipes of runs and of scaling studies share."""

    name: Annotated[str, Field(pattern=rf"^{RUN_NAME.pattern}$")]
    """The run's name, and its folder under `runs/`."""
    description: str = ""
    """One line for `phiscale recipes`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Everything random follows from it."""
    storage: str | None = None
    """URL of an Optuna storage of the run's own (sqlite, journal, postgresql, mysql); none:
    `study.db` in the run's folder; `journal`: `study.journal` there, for network drives."""
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    executor: ExecutorConfig = ExecutorConfig()
    logging: LoggingConfig = LoggingConfig()


class Recipe(Common):
    """A whole run."""

    space: str
    """Name of a shipped space, or path of a YAML file."""
    resolution: Annotated[int, Field(ge=8, le=4096)]
    """Pixels at which the baseline is searched."""
    evaluator: Annotated[EvaluatorConfig, BeforeValidator(_kind)] = EvaluatorConfig()
    objective: ObjectiveConfig
    search: SearchConfig
    coefficients: CoefficientsConfig = CoefficientsConfig()
    family: FamilyConfig

    @property
    def tune_prunes(self) -> bool:
        """Whether Ray Tune's scheduler prunes the search, in place of the study's pruner."""
        return self.executor.kind == "ray" and self.search.pruner.kind == "asha"

    @model_validator(mode="after")
    def _prunable(self) -> Self:
        if self.objective.pareto and self.search.pruner.kind != "none":
            raise ValueError(
                "search.pruner.kind: must be none with `objective.pareto`, since a pruner judges "
                f"one reward, but got {self.search.pruner.kind}"
            )
        return self


_SHIPPED = resources.files("experiments") / "recipes"


#: How the names of shipped recipes for `phiscale study` begin.
_STUDY = "study-"

R = TypeVar("R", bound=Common)


def names() -> list[str]:
    """The shipped recipes of runs."""
    return [name for name in _shipped() if not name.startswith(_STUDY)]


def study_names() -> list[str]:
    """The shipped recipes of scaling studies."""
    return [name for name in _shipped() if name.startswith(_STUDY)]


def _shipped() -> list[str]:
    files = (file.name for file in _SHIPPED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def value_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """All keys of a recipe that hold a value, as `--set` writes them: `search.trials`."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from value_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name or a user's by path, with `key.key=value` overrides applied.

    Raises `InvalidInput` naming the file, the key, what must hold, what was found, and the
    nearest valid name.
    """
    if name_or_path in study_names():
        raise InvalidInput(
            f"{name_or_path}: is the recipe of a scaling study, not of a run; start it with: "
            f"phiscale study {name_or_path}"
        )
    return load_as(Recipe, name_or_path, overrides)


def load_as(kind: type[R], name_or_path: str, overrides: Sequence[str] = ()) -> R:
    """The same for any kind of recipe."""
    if name_or_path in _shipped():
        text = (_SHIPPED / f"{name_or_path}.yaml").read_text("utf-8")
    else:
        text = _read(Path(name_or_path), names() if kind is Recipe else study_names())
    data = _parse(text, name_or_path)
    if not isinstance(data, dict):
        raise InvalidInput(f"{name_or_path}: a recipe is a mapping of keys, but got {data!r:.80}")
    for change in overrides:
        override(data, change)
    return validate(kind, data, source=name_or_path)


def dump(recipe: Common) -> str:
    """The recipe as YAML, every key explicit."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path, names: Sequence[str]) -> str:
    if path.suffix not in (".yaml", ".yml"):
        raise one_of("recipe", str(path), names)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        shipped = ", ".join(names)
        raise InvalidInput(
            f"{path}: cannot be read ({error}); shipped recipes: {shipped}"
        ) from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number, as in YAML 1.2 (pyyaml's 1.1 wants `1.0e-3`), and a
    key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: key {min(twice)!r} is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{source}: is not valid YAML: {error}") from None


def override(data: dict[str, Any], change: str) -> None:
    """Sets the key that `change` (key.key=value) names; raises `InvalidInput` for a bad one."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--set {change}: must have the form key.key=value")
    *sections, last = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise InvalidInput(f"--set {change}: {section} is a value and has no keys of its own")
    data[last] = _parse(text, f"--set {change}")
