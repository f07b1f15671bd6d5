"""Counts of a step's operations: each change takes some away, and so do Triton's kernels."""

from __future__ import annotations

from experiments.benchmarks import operations


def test_changes_and_triton_leave_fewer_operations():
    before, after, by_triton = (
        operations.operations("mobilenet_v3_small", *way)
        for way in ([tuple(operations._CHANGES)], [], [(), True])
    )
    assert before > after > by_triton
