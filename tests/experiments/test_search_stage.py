"""Which trial of a search is its only finalist."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, create_trial

from experiments.stages import search as stage
from search.selection import Selection


def _trial(number: int, value: float) -> FrozenTrial:
    trial = create_trial(value=value)
    trial.number = number
    return trial


@pytest.mark.parametrize("place", [0, 1])
def test_the_only_finalist_is_the_selected_trial_and_a_surprise_is_explained(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    trials, remarks = [_trial(7, 0.61), _trial(3, 0.6)], []
    selection = Selection(trials[place], trials[0], 0.02)
    monkeypatch.setattr(stage, "select", lambda *_: selection)
    monkeypatch.setattr(stage.log, "remark", remarks.append)
    candidates: Any = None
    assert stage._selected(trials, candidates) is trials[place]
    told = "".join(remarks)
    assert told == "" if place == 0 else "Trial 3 is the finalist" in told
    assert ("standard deviation of the reward 0.020" in told) == (place == 1)
