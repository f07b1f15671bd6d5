"""What a report says of a family on other images."""

import json

from reports import transfer
from reports.schema import rows


def found(seeds: int) -> dict:
    """Two members, fine-tuned ten points ahead of training from scratch; searched, two more."""
    return {
        "epochs": 3,
        "search_trials": 8,
        "members": [
            {
                "name": f"b{number}",
                "resolution": 24,
                "macs": 10**6 * (1 + number),
                "params": 10**5 * (1 + number),
                "accuracies": {
                    "fine-tuned": [0.7 + 0.1 * number + 0.01 * seed for seed in range(seeds)],
                    "from scratch": [0.6 + 0.1 * number + 0.01 * seed for seed in range(seeds)],
                    "searched": [0.72 + 0.1 * number + 0.01 * seed for seed in range(seeds)],
                },
                "searched": {"resolution": 24, "macs": 900_000, "params": 90_000},
            }
            for number in range(2)
        ],
    }


def test_means_over_seeds_have_intervals_and_single_training_runs_none():
    assert all(row["low"] < row["accuracy"] < row["high"] for row in rows(transfer.table(found(2))))
    assert all(row["low"] is None for row in rows(transfer.table(found(1))))


def test_accuracy_stands_against_parameters_for_every_way(tmp_path):
    (tmp_path / "transfer.json").write_text(json.dumps(found(2)))
    trained, searched = transfer.write(tmp_path)
    assert "fine-tuning is ahead of training from scratch for 2 of 2 members" in trained
    assert "b0 +10.0, b1 +10.0" in trained
    assert "What 8 trials around each member found" in searched
    assert "b0 +2.0, b1 +2.0" in searched
    own = [row for row in rows(transfer.table(found(2))) if row["way"] == "searched"]
    assert {row["params"] for row in own} == {90_000}
    (axes,) = transfer.draw(found(2)).axes
    assert axes.get_xlabel() == "parameters"
    assert {text.get_text() for text in axes.texts} == {"B0", "B1"}
    assert (tmp_path / "report" / "transfer.png").stat().st_size > 10_000
