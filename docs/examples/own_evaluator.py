"""A search whose measurements are your own: here accuracy is made up from the network's cost."""

from search import samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.objective import Bounds, Objective
from search.search import Search
from search.study import open_study, ranked
from space import choices
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Epoch, Measurement, Report, Status


def evaluate(architecture: Architecture, budget: Budget, report: Report) -> Measurement:
    """Replace this by your training; it says after each epoch how it goes, and stops if told to."""
    accuracy = 0.0
    for epoch in range(1, budget.epochs + 1):
        accuracy = 1 - 1e3 / cost(architecture).macs ** 0.5 - 0.2 / epoch
        if report(Epoch(epoch, train_loss=1.0, accuracy=accuracy, loss=1.0, seconds=0.0)):
            return Measurement(Status.PRUNED, accuracy=accuracy)
    return Measurement(Status.COMPLETE, accuracy=accuracy)


space = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32)
objective = Objective(target=4_000_000, bounds=Bounds(macs=(2_000_000, 8_000_000)))
study = open_study("sqlite:///own.db", "search")
sampler = samplers.create("tpe", Candidates(space, objective), seed=0)
Local().run(Search(study, sampler, Budget(epochs=3), trials=20), evaluate)

best = ranked(study)[0]
print(f"trial {best.number}: reward {best.value:.3f}, {best.user_attrs['cost']['macs']:,} MACs")
