"""Peak activation memory against what torch's allocator hands out."""

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from space import presets
from space.architecture import Skip
from space.memory import peak_memory
from space.network import build

BATCH = 8
SIDE = 160


def pooled(architecture):
    stages = tuple(replace(stage, skip=Skip.POOL) for stage in architecture.stages)
    return replace(architecture, stages=stages)


CASES = {
    "efficientnet_b0": presets.load("efficientnet_b0"),
    "efficientnet_v2_b0": presets.load("efficientnet_v2_b0"),  # TensorFlow's padding
    "mobilenet_v3_small": presets.load("mobilenet_v3_small"),
    "resnet18": presets.load("resnet18"),
    "mobilenet_v2, pooled shortcuts": pooled(presets.load("mobilenet_v2")),
}


def measured(run, given):
    """The peak of allocated bytes while `run` runs, counting `given` bytes as there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    alive = peak = given
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        alive += change
        peak = max(peak, alive)
    return peak


@pytest.mark.parametrize("name", CASES)
def test_peak_memory_is_what_the_allocator_hands_out(name):
    architecture = CASES[name]
    torch.manual_seed(0)
    network = build(architecture).to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    expected = peak_memory(architecture, SIDE)

    network.eval()
    with torch.no_grad():
        inference = measured(lambda: network(images), images.nbytes)
    assert BATCH * expected.inference == pytest.approx(inference, rel=0.01)

    network.train()
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    training = measured(lambda: network(images).sum().backward(), images.nbytes)
    workspace = 3 * max(weight.nbytes for weight in network.parameters())
    assert 0.95 * (training - workspace) <= BATCH * expected.training <= 1.05 * training
