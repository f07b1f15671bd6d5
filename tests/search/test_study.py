import optuna
from optuna.trial import TrialState, create_trial

from search.study import best, finished, open_study


def test_study_is_created_once_and_maximises(storage: str) -> None:
    first, second = open_study(storage, "search"), open_study(storage, "search")
    assert first._study_id == second._study_id
    assert second.direction is optuna.study.StudyDirection.MAXIMIZE


def test_study_without_a_pruner_never_prunes(storage: str) -> None:
    assert isinstance(open_study(storage, "search").pruner, optuna.pruners.NopPruner)


def test_best_is_the_greatest_complete_value_and_the_first_of_equals(storage: str) -> None:
    study = open_study(storage, "search")
    assert best(study) is None
    for value in (0.1, 0.3, 0.3, 0.2):
        study.add_trial(create_trial(value=value))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.9))
    study.add_trial(create_trial(state=TrialState.FAIL))
    found = best(study)
    assert found
    assert found.number == 1
    assert [trial.number for trial in finished(study.trials)] == [0, 1, 2, 3, 4]
