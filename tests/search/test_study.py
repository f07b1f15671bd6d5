import optuna
from optuna.trial import TrialState, create_trial

from search.study import DRIVERS, finished, forget_untried, is_unused, open_study, ranked


def test_study_is_created_once_and_maximises(storage: str) -> None:
    first, second = open_study(storage, "search"), open_study(storage, "search")
    assert first._study_id == second._study_id
    assert second.direction is optuna.study.StudyDirection.MAXIMIZE


def test_study_without_a_pruner_never_prunes(storage: str) -> None:
    assert isinstance(open_study(storage, "search").pruner, optuna.pruners.NopPruner)


def test_complete_trials_are_ranked_by_value_and_the_first_of_equals_first(storage: str) -> None:
    study = open_study(storage, "search")
    assert ranked(study) == []
    for value in (0.1, 0.3, 0.3, 0.2):
        study.add_trial(create_trial(value=value))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.9))
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert [trial.number for trial in ranked(study)] == [1, 2, 3, 0]
    assert [trial.number for trial in finished(study.trials)] == [0, 1, 2, 3, 4]


def test_studies_without_trials_are_forgotten_with_their_directions(each_storage: str) -> None:
    forget_untried(each_storage)  # there is nothing yet
    open_study(each_storage, "search")
    open_study(each_storage, DRIVERS).add_trial(create_trial(value=0.0))
    forget_untried(each_storage)
    study = open_study(each_storage, "search", directions=("maximize", "minimize"))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    study.add_trial(create_trial(values=[0.5, 1.0]))
    forget_untried(each_storage)
    assert len(open_study(each_storage, "search").trials) == 1
    assert len(open_study(each_storage, DRIVERS).trials) == 1


def test_storage_is_used_once_something_is_tried_in_it(each_storage: str) -> None:
    assert is_unused(each_storage)
    open_study(each_storage, DRIVERS).add_trial(create_trial(value=0.0))
    open_study(each_storage, "search")
    assert is_unused(each_storage)
    open_study(each_storage, "search").add_trial(create_trial(value=0.5))
    assert not is_unused(each_storage)
