"""Samplers by name: how the next candidate is chosen.

Each is an Optuna sampler that never proposes a network twice, respects the bounds, and follows
from seed, trial number and recorded trials alone.
"""

from __future__ import annotations

from collections.abc import Callable

from search.candidates import Candidates
from search.samplers import from_optuna
from search.samplers.base import Method, Sampler
from search.samplers.evolution import evolution
from search.samplers.local import local
from search.samplers.observations import Observations
from search.samplers.uniform import uniform
from space.validation import InvalidInput, one_of

_METHODS: dict[str, Method] = {
    "random": uniform,
    "evolution": evolution,
    "local": local,
    "tpe": from_optuna.wrapped(from_optuna.tpe),
    "tpe_multivariate": from_optuna.wrapped(from_optuna.tpe_multivariate),
    "nsga2": from_optuna.wrapped(from_optuna.nsga2),
    "nsga3": from_optuna.wrapped(from_optuna.nsga3),
    "gp": from_optuna.wrapped(from_optuna.gp),
    "brute_force": from_optuna.wrapped(from_optuna.brute_force),
}


def _predictor(prior: Observations | None) -> Method:
    from search.samplers.predictor import Predictor  # loads scipy

    return Predictor(prior)


_LEARNERS: dict[str, Callable[[Observations | None], Method]] = {"predictor": _predictor}


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted([*_METHODS, *_LEARNERS])


def create(
    name: str, candidates: Candidates, seed: int, prior: Observations | None = None
) -> Sampler:
    """The sampler `name` over `candidates`; raises `InvalidInput` where there is none.

    `prior` is what earlier searches of the same choices measured; samplers that have no use for it
    are refused it.
    """
    if name in _LEARNERS:
        return Sampler(_LEARNERS[name](prior), candidates, seed)
    if name not in _METHODS:
        raise one_of("search.sampler", name, names())
    if prior is not None:
        raise InvalidInput(
            f"search.warm_start: the sampler {name} cannot learn from earlier searches; "
            f"use one of: {', '.join(_LEARNERS)}"
        )
    return Sampler(_METHODS[name], candidates, seed)
