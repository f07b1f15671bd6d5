"""What the coefficient stage found: the content of coefficients.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scaling.coefficients import Coefficients
from scaling.grid import GridCandidate, candidates
from space.architecture import Architecture


@dataclass(frozen=True, slots=True)
class CoefficientResult:
    """The chosen coefficients and what they were chosen from: the content of coefficients.json.

    `accuracies` has those of `candidates`, None for one that was not trained to its end; it is
    empty for pinned coefficients. `evidence` is more JSON data (see `scaling.heat_result`).
    """

    chosen: GridCandidate
    phi: float
    factor: float
    pinned: bool
    candidates: tuple[GridCandidate, ...] = ()
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


def _row(candidate: GridCandidate, accuracy: float | None) -> dict[str, Any]:
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
) -> CoefficientResult:
    """The coefficients that a recipe sets, with the cost of a candidate but no accuracy."""
    (chosen,) = candidates(baseline, [coefficients], phi=phi, factor=factor)
    return CoefficientResult(chosen=chosen, phi=phi, factor=factor, pinned=True)
