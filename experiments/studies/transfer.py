"""A family on other images: its members fine-tuned, and the same networks trained from scratch.

EfficientNet, section 5.3, table 5. Where the recipe asks, a third way stands beside them: networks
searched on the other images around each member, from its weights. Beside the run that made the
family:

    RUN/transfer/NAME/  recipe.yaml  manifest.json  study.db  transfer.json  checkpoints/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from experiments import config
from experiments.conduct import (
    Conductor,
    StageFailed,
    StudyName,
    driving,
    load_data,
    require_complete,
)
from experiments.config import Recipe
from experiments.data.load import Data
from experiments.evaluators.training import InitialWeights
from experiments.runs import start as starts
from experiments.runs.environment import environment
from experiments.runs.folder import RecipeFolder
from experiments.runs.recipe_changes import changed, prepared, write_recipe
from experiments.studies.recipes import FINE_TUNED, SCRATCH, SEARCHED, TransferRecipe
from scaling.jobs import InOrder
from scaling.saved_family import WEIGHTS, SavedFamily, load_family
from search import samplers
from search.candidates import Candidates
from search.ledger import job_of
from search.objective import Bounds, Objective
from search.search import Search
from search.selection import select
from search.study import ranked
from space import choices
from space.architecture import Architecture
from space.around import space_around
from space.cost import cost
from space.evaluation import Budget, Job
from space.validation import InvalidInput, validate

#: Keys that may change between two starts, as those of a scaling study.
_MAY_CHANGE = ("processes", "seeds")


@dataclass(frozen=True)
class OpenTransfer(RecipeFolder):
    """The folder of a transfer, and its recipe."""

    recipe: TransferRecipe

    @property
    def label(self) -> str:
        """Differs from the run's, which has its own checkpoints and trackers."""
        return f"{self.recipe.name}-to-{self.folder.name}"


def open_transfer(
    run: Path,
    source: str,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    take_over: bool = False,
) -> OpenTransfer:
    """The transfer of the family in the run's folder to the images `source`, made ready.

    It trains as the run did, in as many epochs as its family, but for `overrides`. Raises
    `InvalidInput` where there is no family, where numbers recorded before mean something else, or
    where another process drives the transfer, whose recipe would change under it.
    """
    saved = run / "recipe.yaml"
    if not saved.is_file() or not (run / "family").is_dir():
        raise InvalidInput(
            f"{run}: must be the folder of a run with a family; train one with: phiscale family RUN"
        )
    recipe = _recipe(config.load(str(saved)), run, source, overrides)
    folder, recipe, before = prepared(out or run / "transfer" / Path(source).name, recipe)
    opened = OpenTransfer(folder, recipe)
    write_recipe(opened, before, _MAY_CHANGE, take_over=take_over)
    return opened


def _recipe(base: Recipe, run: Path, source: str, overrides: Sequence[str]) -> TransferRecipe:
    family = load_family(run / "family")
    data = {
        "name": base.name,
        "description": f"The family of {base.name} on {Path(source).name}",
        "seed": base.seed,
        "data": {
            "source": source,
            "resolution": max(member.architecture.resolution for member in family),
            **base.data.model_dump(mode="json", include={"channels", "mean", "std"}),
        },
        "train": base.train.model_dump(mode="json"),
        "executor": base.executor.model_dump(mode="json"),
        "logging": base.logging.model_dump(mode="json"),
        "metric": base.objective.metric,
        "processes": base.family.processes,
        "epochs": base.family.epochs,
        "family": str((run / "family").resolve()),
    }
    for override in overrides:
        config.override(data, override)
    return validate(TransferRecipe, data, source="phiscale transfer")


def run(opened: OpenTransfer, *, take_over: bool = False) -> dict[str, Any]:
    """Trains each member both ways, writes transfer.json and returns its content.

    Raises `StageFailed` where a training run failed, and `InvalidInput` where another process
    drives the transfer and is not to be taken over.
    """
    recipe, family = opened.recipe, load_family(opened.recipe.family)
    with driving(opened, take_over=take_over) as held:
        data = load_data(opened)
        networks = {
            member.name: replace(member.architecture, num_classes=len(data.classes))
            for member in family
        }
        conductor = Conductor(opened, held, typical=next(iter(networks.values())))
        initial = _starts(opened, family, data.classes)
        ways = {FINE_TUNED: (networks, initial), SCRATCH: (networks, {})}
        if recipe.search_trials:
            searched = {
                name: _searched(conductor, recipe, data, name, network, initial[name])
                for name, network in networks.items()
            }
            ways[SEARCHED] = searched, initial
        trained = {
            way: _trained(conductor, recipe, way, data, *networks_and_starts)
            for way, networks_and_starts in ways.items()
        }
    found = {
        "name": recipe.name,
        "data": recipe.data.source,
        "epochs": recipe.epochs,
        "search_trials": recipe.search_trials,
        "members": [
            {
                "name": name,
                **_described(network),
                "accuracies": {way: accuracies[name] for way, accuracies in trained.items()},
                SEARCHED: {
                    **_described(searched[name]),
                    "architecture": searched[name].to_dict(),
                }
                if recipe.search_trials
                else None,
            }
            for name, network in networks.items()
        ],
    }
    opened.write("transfer.json", found)
    return found


def _described(network: Architecture) -> dict[str, int]:
    return {"resolution": network.resolution, **cost(network)._asdict()}


def _searched(
    conductor: Conductor,
    recipe: TransferRecipe,
    data: Data,
    name: str,
    network: Architecture,
    initial: InitialWeights,
) -> Architecture:
    """What a search around a member finds on the other images, every candidate from its weights.

    Candidates cost half to all of the member's MACs and are measured on held-out images.
    """
    macs, title = cost(network).macs, f"search around {name}"
    space = choices.parse(title, space_around(network, title), source=title)
    objective = Objective(target=macs, bounds=Bounds(macs=(macs // 2, macs)))
    space = space.adapted(num_classes=network.num_classes, in_channels=network.in_channels)
    candidates = Candidates(space, objective)
    study = conductor.open_study(StudyName(title, "transfer", title.capitalize()))
    sampler = samplers.create("predictor", candidates, recipe.seed, None, recipe.search_trials)
    budget = Budget(
        recipe.search_epochs, recipe.data_fraction, seed=recipe.seed, start=initial.name
    )
    search = Search(study, sampler, budget, trials=recipe.search_trials, environment=environment())
    evaluate = conductor.evaluator(data.train, data.held_out, recipe.metric, within=title)
    train = changed(recipe, {"train.learning_rate": recipe.learning_rate_of(SEARCHED)}).train
    evaluate = replace(evaluate, starts=(initial,), config=train)
    with conductor.run.timed(title):
        conductor.conduct(study, search, evaluate, recipe.search_trials, objective.value)
    if not (complete := ranked(study)):
        raise StageFailed(f"transfer: {title}: no trial finished training")
    return job_of(select(complete, candidates).trial).architecture


def _trained(
    conductor: Conductor,
    recipe: TransferRecipe,
    way: str,
    data: Data,
    networks: Mapping[str, Architecture],
    initial: Mapping[str, InitialWeights],
) -> dict[str, list[float | None]]:
    """The accuracies of each network after training from its weights in `initial`, one per seed.

    They are recorded in the study `way`.
    """
    train = changed(recipe, {"train.learning_rate": recipe.learning_rate_of(way)}).train
    evaluate = conductor.evaluator(data.full_train, None, recipe.metric, test=data.test, within=way)
    evaluate = replace(evaluate, starts=tuple(initial.values()), config=train)
    budget = Budget(recipe.epochs, recipe.data_fraction)
    start_of = {name: weights.name for name, weights in initial.items()}
    jobs = {
        name: [
            Job(
                f"{name}, seed {seed}",
                network,
                replace(budget, seed=seed, start=start_of.get(name)),
            )
            for seed in range(recipe.seed, recipe.seed + recipe.seeds)
        ]
        for name, network in networks.items()
    }
    trained = InOrder(chain.from_iterable(zip(*jobs.values(), strict=True)))
    with conductor.run.timed(way):
        study = conductor.open_study(StudyName(way, "transfer", way.capitalize()))
        conductor.conduct(study, trained, evaluate, trained.jobs, processes=recipe.processes)
    require_complete("transfer", trained.told)
    return {name: [trained.told[job.name].accuracy for job in runs] for name, runs in jobs.items()}


def _starts(
    run: OpenTransfer, family: SavedFamily, classes: Sequence[str]
) -> dict[str, InitialWeights]:
    """What each network starts from: its member's weights; outputs are matched by class name.

    They are copied to where every machine of a cluster finds them.
    """
    names, found = (family.classes, tuple(classes)), {}
    for member in family:
        name = member.record.files[WEIGHTS][:16]
        starts.copy(run, name, member.load().state_dict())
        path = starts.copy_path(run, name)
        found[member.name] = InitialWeights(name, member.architecture, path, names)
    return found
