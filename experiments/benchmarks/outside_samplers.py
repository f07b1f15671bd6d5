"""SMAC3 and BoTorch as methods of search, for comparison; neither is a dependency of phiscale.

Install what a comparison needs: `pip install smac==2.4.1 botorch==0.18.1`. Both see what Optuna's
samplers see: the choices and the reward of every trial. As for those, what they propose twice is
replaced by a neighbour.
"""

from __future__ import annotations

from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from search import samplers
from search.candidates import Candidates
from search.samplers.base import History, Method, Proposals, Sampler
from search.samplers.model_free import uniform
from search.samplers.observations import Observations

#: The packages of the samplers, by the names that results give them.
PACKAGES = {"smac3": "smac", "botorch": "botorch"}

#: Trials before the first model (as the predictor's), and the effort of each of BoTorch's proposals
#: (assumed).
_RANDOM, _RESTARTS, _RAW_SAMPLES = 16, 8, 256
#: Random configurations among which SMAC looks, besides its local search (its default of 10,000
#: takes seconds a trial).
_CHALLENGERS = 1_000
#: Configurations that SMAC is asked for until one may be taken (assumed).
_ASKED = 50


def installed(name: str) -> bool:
    """Whether the sampler `name` can be measured here."""
    return name not in PACKAGES or find_spec(PACKAGES[name]) is not None


def create(
    name: str,
    candidates: Candidates,
    seed: int,
    prior: Observations | None = None,
    trials: int | None = None,
) -> Sampler:
    """The sampler `name`, one of ours or of others; see `search.samplers.create`."""
    if name not in PACKAGES:
        return samplers.create(name, candidates, seed, prior, trials)
    method: Method = botorch if name == "botorch" else Smac(seed)
    return Sampler(method, candidates, seed)


class Smac:
    """SMAC3's facade for hyperparameters: random forest, log expected improvement (Lindauer et al.
    2022), one seed per configuration."""

    def __init__(self, seed: int) -> None:
        self._seed, self._told = seed, 0
        self._facade: Any = None
        self._asked: Any = None
        self._folder = TemporaryDirectory()

    def __call__(
        self,
        candidates: Candidates,
        history: History,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> Proposals:
        """What SMAC asks for, after it is told the new trials; it is told a reward of 0 for what is
        not taken, such as networks outside the bounds."""
        self._facade = self._facade or self._made(candidates)
        for trial in history.valued[self._told :]:
            self._tell(_configuration(self._facade, candidates.row(trial.params)), trial.value)
        self._told = len(history.valued)
        for _ in range(_ASKED):
            self._asked = self._facade.ask()
            config = self._asked.config
            yield np.array([config[_name(place)] for place in range(len(candidates.sizes))]), {}
            self._tell(config, 0.0)

    def _tell(self, config: Any, reward: float | None) -> None:
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        # The scenario is deterministic: all trials have the seed of the first that SMAC asked for.
        info = TrialInfo(config, seed=self._asked.seed)
        self._facade.tell(info, TrialValue(cost=1 - (reward or 0.0)), save=False)

    def _made(self, candidates: Candidates) -> Any:
        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace
        from smac import HyperparameterOptimizationFacade, Scenario

        space = ConfigurationSpace(seed=self._seed)
        for place, size in enumerate(candidates.sizes.tolist()):
            space.add(CategoricalHyperparameter(_name(place), list(range(size))))
        scenario = Scenario(
            space,
            deterministic=True,
            n_trials=10_000,
            seed=self._seed,
            output_directory=self._folder.name,
        )
        facade = HyperparameterOptimizationFacade
        return facade(
            scenario,
            _never_called,
            acquisition_maximizer=facade.get_acquisition_maximizer(
                scenario, challengers=_CHALLENGERS
            ),
            initial_design=facade.get_initial_design(scenario, n_configs=_RANDOM),
            overwrite=True,
            logging_level=False,
        )


def _never_called(config: Any, seed: int) -> float:
    raise NotImplementedError(f"SMAC is told results: {config}, {seed}")


def _name(place: int) -> str:
    return f"choice{place:02}"


def _configuration(facade: Any, row: Any) -> Any:
    from ConfigSpace import Configuration

    values = {_name(place): int(value) for place, value in enumerate(row)}
    return Configuration(facade.scenario.configspace, values=values)


def botorch(candidates: Candidates, history: History, rng: np.random.Generator) -> Proposals:
    """BoTorch: a Gaussian process with a Hamming kernel, and log noisy expected improvement
    (Balandat et al. 2020; Ament et al. 2023), maximised by local search."""
    known = history.valued
    if len(known) < _RANDOM:
        yield from uniform(candidates, history, rng)
        return
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import MixedSingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf_discrete_local_search
    from gpytorch.mlls import ExactMarginalLogLikelihood

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        rows = candidates.rows(trial.params for trial in known)
        seen = torch.tensor(rows, dtype=torch.double)
        values = torch.tensor([[trial.value or 0.0] for trial in known], dtype=torch.double)
        model = MixedSingleTaskGP(
            seen, values, cat_dims=[*range(rows.shape[1])], outcome_transform=Standardize(1)
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        gain = qLogNoisyExpectedImprovement(model, seen, prune_baseline=True)
        best, _ = optimize_acqf_discrete_local_search(
            gain,
            q=1,
            discrete_choices=[
                torch.arange(size, dtype=torch.double) for size in candidates.sizes.tolist()
            ],
            num_restarts=_RESTARTS,
            raw_samples=_RAW_SAMPLES,
            X_avoid=seen,
            unique=True,
        )
    yield best[0].round().long().numpy(), {}
