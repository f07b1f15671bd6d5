"""Samplers by name: how the next candidate is chosen.

Each is an Optuna sampler that never proposes a network twice, respects the bounds, and whose
proposals follow from the seed, the trial number and the recorded trials alone.
"""

from __future__ import annotations

from search.candidates import Candidates
from search.samplers import from_optuna
from search.samplers.base import Method, Sampler
from search.samplers.model_free import evolution, local, uniform
from search.samplers.observations import Observations
from space.validation import InvalidInput, one_of

_METHODS: dict[str, Method] = {
    "random": uniform,
    "evolution": evolution,
    "local": local,
} | {name: from_optuna.wrapped(make) for name, make in from_optuna.SAMPLERS.items()}

#: Methods that keep what they computed, each sampler its own.
_LEARNERS = ("controller", "predictor")

#: Methods that support one objective only.
_OF_ONE_REWARD = ("controller", "evolution", "local")


def names() -> list[str]:
    """The names that `create` knows.

    Example:
        >>> from search import samplers
        >>> "predictor" in samplers.names()
        True
    """
    return sorted([*_METHODS, *_LEARNERS])


def create(
    name: str,
    candidates: Candidates,
    seed: int,
    prior: Observations | None = None,
    trials: int | None = None,
) -> Sampler:
    """The sampler `name` over `candidates`; raises `InvalidInput` as `check` does.

    `prior` is what earlier searches of the same choices measured, and `trials` the length of the
    search, None if unknown; only `predictor` uses them.

    Example:
        >>> from search import samplers
        >>> from search.candidates import Candidates
        >>> from search.objective import Objective
        >>> from space import choices
        >>> space = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32)
        >>> candidates = Candidates(space, Objective(target=4_000_000))
        >>> sampler = samplers.create("random", candidates, seed=0)
        >>> sampler.propose([], number=0).candidate.architecture.num_classes
        10
    """
    check(name, several=bool(candidates.objective.pareto), prior=prior is not None)
    return Sampler(_method(name, prior, trials), candidates, seed)


def check(name: str, *, several: bool, prior: bool) -> None:
    """Raises `InvalidInput` if there is no sampler `name`, or it cannot do what is asked.

    `several`: the search has several objectives; `prior`: it should learn from earlier searches.
    """
    if name not in names():
        raise one_of("search.sampler", name, names())
    if several and name in _OF_ONE_REWARD:
        able = ", ".join(known for known in names() if known not in _OF_ONE_REWARD)
        raise InvalidInput(
            f"search.sampler: {name} supports one objective, but objective.pareto sets several; "
            f"choose one of {able}, or remove objective.pareto"
        )
    if prior and name != "predictor":
        raise InvalidInput(
            f"search.warm_start: the sampler {name} cannot learn from earlier searches; "
            "set search.sampler to predictor, or remove search.warm_start"
        )


def _method(name: str, prior: Observations | None, trials: int | None) -> Method:
    match name:
        case "controller":
            from search.samplers.controller import Controller  # torch

            return Controller()
        case "predictor":
            from search.samplers.predictor import Predictor

            return Predictor(prior, trials)
        case _:
            return _METHODS[name]
