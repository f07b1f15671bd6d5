"""The coefficients of compound scaling: α (depth), β (width), γ (resolution), and their grid.

EfficientNet, section 3.3: depth α^φ, width β^φ, resolution γ^φ with α·β²·γ² ≈ 2 and α, β, γ >= 1,
so that MACs grow about 2^φ times. Section 5.3 finds them by a grid search at φ = 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from scaling.compound import scale
from scaling.jobs import InOrder
from space.architecture import Architecture
from space.cost import Cost, cost
from space.evaluation import Budget, Job, Measurement, Status
from space.validation import InvalidInput

#: Finer grids have more combinations than networks to tell apart (assumed).
MIN_STEP = 0.01


class AllFailed(RuntimeError):
    """No candidate was trained to its end, so none can be chosen."""


class Factors(NamedTuple):
    """What the repeats, the channels and the resolution of a network are multiplied by."""

    depth: float
    width: float
    resolution: float


@dataclass(frozen=True, slots=True, order=True)
class Coefficients:
    """α, β and γ, each at least 1; raises ValueError otherwise."""

    alpha: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma)):
            if not 1 <= value < math.inf:
                raise ValueError(f"`{name} >= 1` must hold, but got {name}={value}")

    def __str__(self) -> str:
        return f"α{self.alpha:g} β{self.beta:g} γ{self.gamma:g}"

    @property
    def nominal(self) -> float:
        """α·β²·γ²: what one step of φ multiplies MACs by, before any rounding."""
        return self.alpha * self.beta**2 * self.gamma**2

    def at(self, phi: float) -> Factors:
        """The factors α^φ, β^φ, γ^φ; below 1 where φ is negative."""
        return Factors(self.alpha**phi, self.beta**phi, self.gamma**phi)


#: Found for EfficientNet-B0 on ImageNet (section 5.3); their nominal product is 1.92.
PUBLISHED = Coefficients(alpha=1.2, beta=1.1, gamma=1.15)


class Bounds(NamedTuple):
    """The least and the greatest value of each coefficient on a grid, both included."""

    alpha: tuple[float, float] = (1.0, math.inf)
    beta: tuple[float, float] = (1.0, math.inf)
    gamma: tuple[float, float] = (1.0, math.inf)


ANY = Bounds()


def grid(
    step: float, tolerance: float, factor: float = 2.0, bounds: Bounds = ANY
) -> tuple[Coefficients, ...]:
    """All (α, β, γ) on 1, 1 + step, 1 + 2·step … with |α·β²·γ² − factor| <= tolerance, ascending.

    The constraint is on the nominal product, as in the paper; those of `scaling.realised` are on
    the cost after rounding. Computed in exact decimals: 1.1 + 0.1 is 1.2, and a product on the
    bound belongs to the grid. Raises `InvalidInput` where the values are impossible or nothing
    lies on the grid; it then says which tolerance or step would give candidates.
    """
    check_grid(step, tolerance, factor)
    found = tuple(lattice(step, *_around(factor, tolerance), bounds))
    if not found:
        raise InvalidInput(_empty(step, tolerance, factor, bounds))
    return found


def check_grid(step: float, tolerance: float, factor: float) -> None:
    """Raises `InvalidInput` for values with which no grid makes sense."""
    for name, value, rule, holds in (
        ("step", step, f"{MIN_STEP} <= step <= 1", MIN_STEP <= step <= 1),
        ("tolerance", tolerance, "0 <= tolerance < factor", 0 <= tolerance < factor),
        ("factor", factor, "1 < factor <= 16", 1 < factor <= 16),
    ):
        if not holds:
            raise InvalidInput(f"coefficients.{name}: `{rule}` must hold, but got {name}={value}")


def lattice(
    step: float, least: float | Fraction, most: float | Fraction, bounds: Bounds = ANY
) -> Iterator[Coefficients]:
    """The combinations with `least` <= α·β²·γ² <= `most`, ascending; none where there are none."""
    low, high = _exact(least), _exact(most)
    for alpha in _values(step, high, bounds.alpha):
        for beta in _values(step, high / alpha, bounds.beta):
            for gamma in _values(step, high / alpha / beta**2, bounds.gamma):
                if low <= alpha * beta**2 * gamma**2 <= high:
                    yield Coefficients(float(alpha), float(beta), float(gamma))


def _values(step: float, most: Fraction, bounds: tuple[float, float]) -> Iterator[Fraction]:
    value = Fraction(1)
    while value <= most and float(value) <= bounds[1]:
        if float(value) >= bounds[0]:
            yield value
        value += _exact(step)


def _exact(value: float | Fraction) -> Fraction:
    """The decimal number that a person wrote, not the binary one next to it."""
    return Fraction(str(value))


def _around(factor: float, tolerance: float) -> tuple[Fraction, Fraction]:
    return _exact(factor) - _exact(tolerance), _exact(factor) + _exact(tolerance)


def _empty(step: float, tolerance: float, factor: float, bounds: Bounds) -> str:
    nearest = min(
        lattice(step, 1, 2 * factor, bounds),
        key=lambda each: abs(each.nominal - factor),
        default=None,
    )
    within = _around(factor, tolerance)
    finer = (trial for trial in (0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01) if trial < step)
    enough = next((trial for trial in finer if any(lattice(trial, *within, bounds))), None)
    advice = []
    if nearest is not None:
        needed = math.ceil(abs(nearest.nominal - factor) * 1000 - 1e-6) / 1000
        advice.append(f"tolerance {needed:g} would give {nearest}")
    if enough is not None:
        advice.append(f"step {enough:g} others")
    return (
        f"coefficients: some combination must have |α·β²·γ² − {factor:g}| <= tolerance, but with "
        f"step {step:g} and tolerance {tolerance:g} none has; "
        + (", ".join(advice) or "widen the bounds")
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One network of the grid, with every combination that rounds to it in `names`.

    `coefficients` is the one of `names` whose nominal product is nearest the grid's factor (the
    first of several): by it the family would grow. `realised_ratio` is MACs over the baseline's.
    """

    coefficients: Coefficients
    names: tuple[Coefficients, ...]
    architecture: Architecture
    cost: Cost
    realised_ratio: float

    @property
    def label(self) -> str:
        """The name of its job: `α1.2 β1.1 γ1.15`."""
        return str(self.coefficients)


def candidates(
    baseline: Architecture,
    combinations: Iterable[Coefficients],
    *,
    phi: float = 1.0,
    factor: float = 2.0,
    multiple: int = 1,
) -> tuple[Candidate, ...]:
    """The distinct networks that `combinations` make of `baseline` at φ, in their order.

    Combinations that round to the same network (the same `key`) are one candidate. The resolution
    belongs to a network, so those that differ only in γ are merged only where the pixels agree.
    """
    return merged(
        baseline,
        (
            (each, scale(baseline, **each.at(phi)._asdict(), multiple=multiple))
            for each in combinations
        ),
        factor,
    )


def merged(
    baseline: Architecture,
    scaled: Iterable[tuple[Coefficients, Architecture]],
    factor: float,
) -> tuple[Candidate, ...]:
    """One candidate for each network of `scaled`, with all combinations that gave it, in order."""
    networks: dict[str, Architecture] = {}
    names: dict[str, list[Coefficients]] = {}
    for combination, network in scaled:
        networks.setdefault(network.key, network)
        names.setdefault(network.key, []).append(combination)

    macs = cost(baseline).macs
    return tuple(
        Candidate(
            coefficients=min(names[key], key=lambda each: abs(each.nominal - factor)),
            names=tuple(names[key]),
            architecture=network,
            cost=cost(network),
            realised_ratio=cost(network).macs / macs,
        )
        for key, network in networks.items()
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """The chosen coefficients and what they were chosen from: the content of coefficients.json.

    `accuracies` holds those of `candidates`, None for one that was not trained to its end. Pinned
    coefficients were not measured: their `accuracies` are empty. `evidence` is what else is known
    of the answer, as JSON data (see `scaling.evidence`).
    """

    chosen: Candidate
    phi: float
    factor: float
    pinned: bool
    candidates: tuple[Candidate, ...] = ()
    accuracies: tuple[float | None, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        rows = zip(self.candidates, self.accuracies, strict=True)
        measured = [_row(candidate, accuracy) for candidate, accuracy in rows]
        chosen = next(
            (row for row in measured if row["key"] == self.chosen.architecture.key),
            _row(self.chosen, None),
        )
        own = ("alpha", "beta", "gamma", "nominal_product", "realised_ratio", "accuracy", "cost")
        return {
            **{name: chosen[name] for name in own},
            "phi": self.phi,
            "factor": self.factor,
            "pinned": self.pinned,
            "candidates": measured,
            **self.evidence,
        }


def _row(candidate: Candidate, accuracy: float | None) -> dict[str, Any]:
    return {
        **asdict(candidate.coefficients),
        "names": [[name.alpha, name.beta, name.gamma] for name in candidate.names],
        "nominal_product": round(candidate.coefficients.nominal, 9),
        "realised_ratio": candidate.realised_ratio,
        "cost": candidate.cost._asdict(),
        "accuracy": accuracy,
        "key": candidate.architecture.key,
    }


def pinned(
    baseline: Architecture,
    coefficients: Coefficients,
    *,
    phi: float,
    factor: float,
    multiple: int = 1,
) -> Answer:
    """The answer that a recipe gives itself: costed as a candidate would be, not measured."""
    (chosen,) = candidates(baseline, [coefficients], phi=phi, factor=factor, multiple=multiple)
    return Answer(chosen=chosen, phi=phi, factor=factor, pinned=True)


class Grid(InOrder):
    """A `Proposer` that trains every candidate within one budget, and knows the best."""

    def __init__(self, candidates: Iterable[Candidate], budget: Budget) -> None:
        self.candidates = tuple(candidates)
        super().__init__(
            Job(candidate.label, candidate.architecture, budget) for candidate in self.candidates
        )

    def answer(self, *, phi: float, factor: float) -> Answer:
        """The most accurate candidate told so far; of equals the cheaper, then the earlier.

        Raises `AllFailed`, with the first reason, where no candidate has an accuracy.
        """
        accuracies = tuple(self._accuracy(candidate) for candidate in self.candidates)
        measured = [
            (-accuracy, candidate.cost.macs, order)
            for order, (candidate, accuracy) in enumerate(
                zip(self.candidates, accuracies, strict=True)
            )
            if accuracy is not None
        ]
        if not measured:
            raise AllFailed(self._all_failed())
        *_, best = min(measured)
        return Answer(
            chosen=self.candidates[best],
            phi=phi,
            factor=factor,
            pinned=False,
            candidates=self.candidates,
            accuracies=accuracies,
        )

    def _accuracy(self, candidate: Candidate) -> float | None:
        measurement = self.told.get(candidate.label)
        complete = measurement is not None and measurement.status is Status.COMPLETE
        return measurement.accuracy if measurement and complete else None

    def _all_failed(self) -> str:
        failures: dict[str, Measurement] = self.told
        reasons = [f"{name}: {told.reason or told.status}" for name, told in failures.items()]
        first = f"; the first, {reasons[0]}" if reasons else ""
        return (
            f"coefficients: at least one candidate must be trained to its end, but of "
            f"{len(self.candidates)} none was{first}"
        )
