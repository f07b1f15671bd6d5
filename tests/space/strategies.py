"""Random architectures for hypothesis: every operator, and every choice that one has."""

from hypothesis import strategies as st

from space.architecture import (
    Activation,
    Architecture,
    Gate,
    Head,
    Numerics,
    Operator,
    Padding,
    Skip,
    SqueezeBase,
    SqueezeExcite,
    Stage,
    Stem,
)

SQUEEZES = st.none() | st.builds(
    SqueezeExcite,
    ratio=st.sampled_from([0.25, 0.5]),
    base=st.sampled_from(SqueezeBase),
    divisor=st.sampled_from([1, 8]),
    gate=st.sampled_from(Gate),
    activation=st.none() | st.sampled_from(Activation),
)
STAGES = st.builds(
    Stage,
    operator=st.sampled_from(Operator),
    channels=st.sampled_from([8, 16, 24]),
    repeats=st.integers(1, 2),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    expansion=st.sampled_from([0.5, 1.0, 3.0]),
    se=SQUEEZES,
    skip=st.sampled_from(Skip),
    activation=st.none() | st.sampled_from(Activation),
    linear=st.booleans(),
)
ARCHITECTURES = st.builds(
    Architecture,
    stem=st.builds(
        Stem,
        channels=st.sampled_from([8, 16]),
        kernel=st.sampled_from([1, 3]),
        stride=st.integers(1, 2),
        pool=st.booleans(),
    ),
    stages=st.lists(STAGES, min_size=1, max_size=3).map(tuple),
    head=st.builds(
        Head,
        channels=st.sampled_from([0, 32]),
        hidden=st.sampled_from([0, 16]),
        hidden_norm=st.booleans(),
    ),
    resolution=st.sampled_from([17, 32]),
    num_classes=st.sampled_from([2, 5]),
    numerics=st.builds(
        Numerics,
        activation=st.sampled_from(Activation),
        bn_eps=st.sampled_from([1e-3, 1e-5]),
        bn_momentum=st.sampled_from([0.01, 0.1]),
        padding=st.sampled_from(Padding),
    ),
    dropout=st.sampled_from([0.0, 0.2]),
    stochastic_depth=st.sampled_from([0.0, 0.2]),
)
