import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from space import moves

sizes_lists = st.lists(st.integers(1, 5), min_size=1, max_size=8).map(np.array)


@given(sizes_lists, st.integers(0, 2**32))
def test_uniform_rows_hold_valid_indices(sizes: np.ndarray, seed: int) -> None:
    rows = moves.uniform(sizes, 20, np.random.default_rng(seed))
    assert rows.shape == (20, len(sizes))
    assert ((rows >= 0) & (rows < sizes)).all()


@given(sizes_lists, st.integers(0, 2**32))
def test_neighbours_are_all_rows_one_choice_away(sizes: np.ndarray, seed: int) -> None:
    [row] = moves.uniform(sizes, 1, np.random.default_rng(seed))
    found = moves.neighbours(row, sizes)
    assert len(np.unique(found, axis=0)) == len(found) == (sizes - 1).sum()
    assert ((found >= 0) & (found < sizes)).all()
    assert ((found != row).sum(axis=1) == 1).all()


@given(sizes_lists, st.integers(0, 2**32), st.integers(0, 10))
def test_mutation_changes_as_many_choices_as_asked(
    sizes: np.ndarray, seed: int, changes: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = moves.uniform(sizes, 30, rng)
    mutants = moves.mutated(rows, sizes, np.full(30, changes), rng)
    expected = min(changes, int((sizes > 1).sum()))
    assert ((mutants != rows).sum(axis=1) == expected).all()
    assert ((mutants >= 0) & (mutants < sizes)).all()


def test_mutation_reaches_every_other_value_alike() -> None:
    rows = np.zeros((6_000, 1), np.int64)
    drawn = moves.mutated(rows, np.array([4]), np.ones(6_000, int), np.random.default_rng(0))
    assert np.bincount(drawn[:, 0], minlength=4)[0] == 0
    assert (abs(np.bincount(drawn[:, 0])[1:] - 2_000) < 200).all()
