"""Tables that explain the search: learning curves, choices, importance, ranks of the finalists."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports.load import Run, Trial
from reports.schema import frame, names

if TYPE_CHECKING:
    import pandas as pd

    from scaling.elastic_order import SeedAgreement

_CURVES = names("study trial job state epoch accuracy loss train_loss seconds")
_CHOICES = names("choice value among_best among_all")
_IMPORTANCE = names("choice importance")
_RANKS = names(
    "trial job short_reward long_reward short_rank long_rank macs short_accuracy accuracy key"
)

#: The part of the search's complete trials that counts as its best, and their least number.
BEST_SHARE, BEST_AT_LEAST = 0.05, 5
#: The studies whose networks are measured on the test images.
TESTED = ("family", "rivals")
#: Learning curves below which the agreement of their epochs means nothing (assumed).
_FEW_CURVES = 5
#: Complete trials below which frequencies and importances mean nothing (assumed).
_FEW_TRIALS = 20


def learning_curves(run: Run) -> pd.DataFrame:
    """What every training run measured on held-out images, a row for each of its epochs.

    The family and its rivals are left out: they are tested once, after the last epoch.
    """
    return frame(
        [
            {"study": trial.study, "trial": trial.number, "job": trial.job, "state": trial.state}
            | epoch
            for trial in run.all_trials
            if trial.answered_from is None and trial.study not in TESTED
            for epoch in trial.measurement.get("epochs", ())
        ],
        _CURVES,
    )


def choices(run: Run) -> pd.DataFrame:
    """How often the search's best complete trials made each choice, beside how often all did.

    The best are the `BEST_SHARE` with the highest rewards, but at least `BEST_AT_LEAST`. Empty if
    there are too few trials.
    """
    every = _complete(run)
    if len(every) < _FEW_TRIALS:
        return frame([], _CHOICES)
    ordered = sorted(every, key=lambda trial: (-(trial.value or 0.0), trial.number))
    top = ordered[: best_count(len(every))]
    made, best = (Counter(p for t in group for p in t.choices.items()) for group in (every, top))
    listed = sorted(made, key=lambda pair: (pair[0], isinstance(pair[1], str), pair[1]))
    return frame(
        [
            {
                "choice": name,
                "value": str(value),
                "among_best": best[name, value] / len(top),
                "among_all": made[name, value] / len(every),
            }
            for name, value in listed
        ],
        _CHOICES,
    )


def best_count(complete: int) -> int:
    """How many of `complete` trials `choices` calls the best."""
    return max(BEST_AT_LEAST, math.ceil(BEST_SHARE * complete))


def _complete(run: Run) -> list[Trial]:
    return [
        trial
        for trial in run.study("search")
        if trial.state == "complete" and trial.answered_from is None and trial.value is not None
    ]


def importance(run: Run) -> pd.DataFrame:
    """How much each choice decides whether a trial is among the best tenth; adds up to 1.

    Empty if there are too few trials. Source: PED-ANOVA (Watanabe et al. 2023), as Optuna
    implements it.
    """
    every = _complete(run)
    if len(every) < _FEW_TRIALS or len({trial.value for trial in every}) < 2:
        return frame([], _IMPORTANCE)
    found = sorted(_ped_anova(every).items(), key=lambda item: (-item[1], item[0]))
    return frame([{"choice": name, "importance": share} for name, share in found], _IMPORTANCE)


def _ped_anova(complete: Sequence[Trial]) -> dict[str, float]:
    """Optuna's importance of each choice, over the values that were tried."""
    import warnings

    import optuna

    tried: dict[str, dict[Any, None]] = {}
    for trial in complete:
        for name, value in trial.choices.items():
            tried.setdefault(name, {})[value] = None
    offered = {
        name: optuna.distributions.CategoricalDistribution(list(values))
        for name, values in tried.items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # of a study that exists in memory only
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(
            value=trial.value,
            params=dict(trial.choices),
            distributions={name: offered[name] for name in trial.choices},
        )
        for trial in complete
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def ranks(run: Run) -> pd.DataFrame:
    """The finalists by their reward in the search's short training run and in the long one."""
    short = {trial.key: trial for trial in reversed(_complete(run))}
    latest = {
        trial.key: trial
        for trial in run.study("finalists")
        if trial.state == "complete" and trial.value is not None and trial.key in short
    }
    found = frame(
        [
            {
                "trial": short[key].number,
                "job": trial.job,
                "short_reward": short[key].value,
                "long_reward": trial.value,
                "macs": trial.cost.get("macs"),
                "short_accuracy": short[key].measurement.get("accuracy"),
                "accuracy": trial.measurement.get("accuracy"),
                "key": key,
            }
            for key, trial in latest.items()
        ],
        _RANKS,
    )
    for name in ("short", "long"):
        order = found[f"{name}_reward"].rank(ascending=False, method="first")
        found[f"{name}_rank"] = order.astype("Int64")
    return found.sort_values("short_rank", ignore_index=True)


def kendall_tau(ranks: pd.DataFrame) -> float | None:
    """Kendall's τ of the two rankings: 1 for the same order, −1 reversed; None for one finalist."""
    if len(ranks) < 2:
        return None
    return float(ranks["short_rank"].corr(ranks["long_rank"], method="kendall"))


def elastic_agreement(run: Run) -> SeedAgreement | None:
    """How well the elastic networks of a search agree on the parts that all of them measured."""
    if not run.elastic:
        return None
    from scaling.elastic_order import seed_agreement

    measured = frame(
        [
            {**trial.measurement, "key": trial.key, "seed": trial.budget["seed"]}
            for trial in (*_complete(run), *run.study("elastic seeds"))
            if trial.state == "complete" and trial.answered_from is None
        ],
        ["key", "seed", "accuracy"],
    )
    by_seed = measured.pivot_table("accuracy", "seed", "key", aggfunc="last")
    return seed_agreement(by_seed.to_numpy())


def epoch_agreement(curves: pd.DataFrame) -> dict[int, float]:
    """For each epoch, Kendall's τ of the search's accuracies then with those after the last one.

    Over the complete trials with the most epochs; empty below `_FEW_CURVES` of them.
    """
    complete = curves[(curves["study"] == "search") & (curves["state"] == "complete")]
    table = complete.pivot(index="trial", columns="epoch", values="accuracy").dropna()
    if len(table) < _FEW_CURVES:
        return {}
    *earlier, last = sorted(table.columns)
    agreement = table.corr("kendall")[last]
    return {
        int(epoch): float(agreement[epoch]) for epoch in earlier if not math.isnan(agreement[epoch])
    }
