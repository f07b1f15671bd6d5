"""Stage 3: the members, trained on all training images, tested, written and verified."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.conduct import StageFailed, StudyName, require_complete
from experiments.config import Recipe
from experiments.evaluators.training import TrainingEvaluator, training_id
from experiments.families.export import quantised
from experiments.families.predictions import Predictions
from experiments.families.test_resolutions import ResolutionTest
from experiments.progress import log
from experiments.runs.environment import environment
from experiments.runs.start import Start
from experiments.stages import growth, rivals
from experiments.stages.context import StageContext
from experiments.training.augment import normalise, resize
from experiments.training.failures import TrainingFailed
from experiments.training.machine import choose_device
from scaling import export, rules
from scaling.coefficients import Coefficients
from scaling.family import PlannedFamily, PlannedMember, family_at, family_for
from scaling.formats import Format, Portable, full_name
from scaling.jobs import InOrder
from scaling.saved_family import (
    DataRecord,
    MemberRecord,
    Origin,
    Preprocessing,
    SavedMember,
    load_record,
)
from scaling.targets import MEASURES, Measure
from scaling.verification import not_installed
from space.architecture import Architecture
from space.cost import cost
from space.device import device_memory, over_bounds
from space.evaluation import Job, Measurement
from space.network import Network
from space.validation import InvalidInput

#: Test images on which a member on disk must put out what the trained one does (assumed).
_PROOF_IMAGES = 16

#: Seconds for which a member's latency is measured (assumed).
_LATENCY_SECONDS = 0.2

#: The part of a target cost by which a member may miss it unremarked.
_NOTED_MISS = 0.01


def run(context: StageContext) -> dict[str, Any]:
    """Stage 3: the members, trained on all training images, tested, written and verified."""
    family = _family(context)
    for line in _remarks(family, context.data.train.resolution, context.recipe):
        log.remark(line)
    jobs, evaluate = family.jobs(context.family_budget), context.evaluator(final=True)
    if context.recipe.family.teacher:
        jobs = taught(jobs, context.recipe.family.teacher)
    if context.recipe.family.grow:
        jobs = growing(jobs, context.start.architecture if context.start else None)
    trained = [evaluate.trained(job) for job in jobs]
    evaluate = replace(evaluate, starts=(*evaluate.starts, *trained))
    members = InOrder(jobs)
    together = context.recipe.family.processes
    context.record(
        StudyName("family", "family", "Family"), members, jobs, evaluate, processes=together
    )
    require_complete("family", members.told)
    predictions = Predictions(
        context.run.folder / "predictions",
        context.data.test,
        choose_device(evaluate.device),
        context.data.test_names,
        context.recipe.data.normalisation,
    )
    budget = rivals.budget_of(context, family)
    family, exported = _export(context, family, members, evaluate, predictions)
    grown = context.run.folder / growth.FILE
    return exported | {
        "rivals": rivals.train(context, family, budget, evaluate, predictions),
        "growth": json.loads(grown.read_text("utf-8")) if grown.is_file() else None,
    }


def _family(context: StageContext) -> PlannedFamily:
    settings, baseline = context.recipe.family, context.baseline
    found = context.run.read("coefficients.json")
    coefficients = Coefficients(found["alpha"], found["beta"], found["gamma"])
    if settings.rule != "learned":  # an earlier one's evidence is not this family's
        (context.run.folder / growth.FILE).unlink(missing_ok=True)
    if not settings.targets:
        return family_at(baseline, coefficients, settings.phi, multiple=settings.multiple)
    if settings.rule == "learned":
        return growth.learned(context, coefficients, _measure(context))
    return family_for(
        baseline,
        coefficients,
        settings.targets,
        rule=rules.load(settings.rule, coefficients),
        measure=_measure(context),
        multiple=settings.multiple,
    )


def taught(jobs: Sequence[Job], teacher: str) -> tuple[Job, ...]:
    """Lets the members learn from the outputs of the member `teacher`, which is trained first."""
    (best,) = (job for job in jobs if job.name == teacher)
    name = training_id(best.architecture, best.budget)
    return tuple(
        job
        if job is best
        else replace(job, budget=replace(job.budget, teacher=name), after=teacher)
        for job in jobs
    )


def growing(jobs: Sequence[Job], start: Architecture | None) -> tuple[Job, ...]:
    """Lets each member start from the next smaller one, or from the run's `start` if it is nearer.

    The nearer one has the smaller ratio of MACs to the member's. A teacher of others never grows.
    """
    grown: dict[str, Job] = {}
    below: Job | None = None
    for job in sorted(jobs, key=lambda job: cost(job.architecture).macs):
        if any(other.after == job.name for other in jobs):  # the teacher, which comes first
            grown[job.name] = job
            continue
        if below is not None and below.architecture.key == job.architecture.key:
            job = replace(job, budget=below.budget, after=below.after)
        elif below is not None and (
            start is None or _ratio(below.architecture, job) <= _ratio(start, job)
        ):
            name = training_id(below.architecture, below.budget)
            job = replace(job, budget=replace(job.budget, start=name), after=below.name)
        below = grown[job.name] = job
    return tuple(grown[job.name] for job in jobs)


def _ratio(network: Architecture, job: Job) -> float:
    """By what factor the MACs of one differ from those of the other, at least 1."""
    ratio = cost(network).macs / cost(job.architecture).macs
    return max(ratio, 1 / ratio)


def _measure(context: StageContext) -> Measure:
    """What targets are of. A latency is measured once: members stay as they are when they go on."""
    if context.recipe.family.cost != "latency":
        return MEASURES[context.recipe.family.cost]
    from experiments.latency import timing

    settings, file = context.recipe.executor, context.run.folder / "latencies.json"
    known: dict[str, float] = json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def seconds(network: Architecture) -> float:
        if network.key not in known:
            found = timing.measure(network, device=settings.device, threads=settings.threads)
            known[network.key] = found.median_seconds
            context.run.write(file.name, known)
        return known[network.key]

    return seconds


def _export(
    context: StageContext,
    family: PlannedFamily,
    trained: InOrder,
    evaluate: TrainingEvaluator,
    predictions: Predictions,
) -> tuple[PlannedFamily, dict[str, Any]]:
    """Writes every member in every format, and proves what was written on test images.

    Gives the family with the resolutions that were exported, and the content of family.json.
    """
    folder = context.run.folder / "family"
    about, known = _about(context), _known(folder)
    images = context.data.test.read(np.arange(min(_PROOF_IMAGES, len(context.data.test))))
    records, members, test = [], [], _resolution_test(context, evaluate)
    for member, job in zip(family.members, trained.jobs, strict=True):
        network = _trained(job, evaluate)
        result = _test_result(trained.told[member.name], len(about.classes))
        if test is not None:
            network, result = test(network, result)
            member = _at_resolution(member, network.architecture, _measure(context))
        members.append(member)
        predictions.add(member.name, network)
        pixels = resize(torch.from_numpy(images), member.resolution)
        inputs = normalise(pixels.permute(0, 3, 1, 2), context.recipe.data.normalisation)
        record = export.export_member(folder, member, network, result, about, inputs)
        formats = _quantised_formats(context.recipe) - record.int8.keys()
        if formats:
            portable = Portable(
                full_name(about.name, member.name),
                member.architecture,
                about.classes,
                about.preprocessing,
            )
            saved = SavedMember(folder / member.name, record, portable)
            record = quantised(saved, formats, context.data)
        records.append(record)
    predictions.write_images()
    family = replace(family, members=tuple(members))
    for line in _left_out(family, about):
        log.remark(line)
    _measure_latency(context, family, records, known)
    export.write_family(folder, records, family.coefficients, about)
    return family, context.run.read("family/family.json")


def _quantised_formats(recipe: Recipe) -> set[Format]:
    """The formats with 8 bits that members are written in: LiteRT's, too, where it is installed."""
    if not recipe.family.int8:
        return set()
    return {Format.ONNX} | ({Format.LITERT} if not_installed(Format.LITERT) is None else set())


def _resolution_test(context: StageContext, evaluate: TrainingEvaluator) -> ResolutionTest | None:
    """What measures members at the recipe's `test_resolutions`, if it has any."""
    recipe, data = context.recipe, context.data
    if not recipe.family.test_resolutions:
        return None
    if recipe.data.return_held_out:
        log.remark(
            "The members trained on the held-out images, so these choose no test resolution; set "
            "data.return_held_out: false in a new run to have one chosen."
        )
    return ResolutionTest(
        recipe.family.test_resolutions,
        recipe.family.multiple,
        None if recipe.data.return_held_out else data.held_out,
        data.test,
        recipe.objective.metric,
        choose_device(evaluate.device),
        recipe.data.normalisation,
    )


def _at_resolution(member: PlannedMember, network: Architecture, measure: Measure) -> PlannedMember:
    """The member as `network`, which may differ from it in resolution, and its miss."""
    if network == member.architecture:
        return member
    miss = None if member.target is None else measure(network) / member.target - 1
    return replace(member, architecture=network, miss=miss)


def _known(folder: Path) -> set[str]:
    """The keys of the networks that were there before; none where nothing was exported."""
    try:
        return {record.key for record in load_record(folder).members}
    except InvalidInput:
        return set()


def _measure_latency(
    context: StageContext, family: PlannedFamily, records: Sequence[MemberRecord], known: set[str]
) -> None:
    """The latency of every member at batch 1, for the cards; what was measured before stays."""
    from experiments.latency import timing

    path = context.run.folder / "family" / timing.FILE
    if path.is_file() and known == {record.key for record in records}:
        return
    settings = context.recipe.executor
    subjects = [
        timing.Subject(member.name, member.architecture, record.accuracy)
        for member, record in zip(family.members, records, strict=True)
    ]
    rows = timing.survey(
        subjects, device=settings.device, threads=settings.threads, at_least=_LATENCY_SECONDS
    )
    timing.write(path, list(rows))


def _left_out(family: PlannedFamily, about: export.About) -> Iterator[str]:
    """The formats that were not written, once for all members that lack them alike."""
    found: dict[tuple[Format, str], list[str]] = {}
    for member in family.members:
        portable = Portable(about.name, member.architecture, about.classes, about.preprocessing)
        for format_, reason in export.left_out(portable, export.EVERY).items():
            found.setdefault((format_, reason), []).append(member.name)
    for (missing, reason), names in found.items():
        yield f"{', '.join(names)}: not exported to {missing}: {reason}"


def _about(context: StageContext) -> export.About:
    recipe, data, summary = context.recipe, context.data, context.data.summary
    parts = ["train", "held_out"] if recipe.data.return_held_out else ["train"]
    per_class = np.sum([summary.per_class[part] for part in parts], axis=0)
    return export.About(
        name=recipe.name,
        classes=data.classes,
        preprocessing=Preprocessing(
            *recipe.data.normalisation,
            stored=data.train.resolution,
            white=summary.white,
        ),
        data=DataRecord(
            source=Path(recipe.data.source).name,
            fingerprint=summary.fingerprint,
            train=int(per_class.sum()),
            test=len(data.test),
            train_per_class=tuple(per_class.tolist()),
            test_per_class=summary.per_class["test"],
            held_out=len(data.held_out),
            remarks=summary.warnings,
        ),
        origin=_origin(recipe, context.start),
    )


def _origin(recipe: Recipe, start: Start | None) -> Origin:
    objective = recipe.objective
    below, above = objective.exponent_below, objective.exponent_above
    exponent = f"{below:g}" if below == above else f"{below:g} below the target, {above:g} above"
    return Origin(
        space=Path(recipe.space).stem,
        reward=f"accuracy · ({objective.cost} / {objective.target:,})^w, w = {exponent}",
        sampler=recipe.search.sampler,
        trials=recipe.search.trials,
        search_epochs=recipe.search.epochs,
        family_epochs=recipe.family.epochs,
        seed=recipe.seed,
        metric=objective.metric,
        phiscale=environment()["phiscale"],
        start=start.record if start else None,
    )


def _remarks(family: PlannedFamily, stored: int, recipe: Recipe) -> Iterator[str]:
    """What the user of a family should know before it is trained; images have `stored` pixels."""
    cost, objective = recipe.family.cost, recipe.objective
    for name, earlier in family.duplicates:
        yield f"{name} is the same network as {earlier} after rounding"
    for member in family.members:
        needs = device_memory(member.architecture, objective.precision)._asdict()
        for clause in over_bounds(
            needs, objective.bounds.model_dump(), objective.overhead.model_dump()
        ):
            yield f"{member.name} needs {clause}, which hold for the search"
        if member.resolution > stored:
            yield f"{member.name} takes {member.resolution} pixels, upscaled from {stored}"
        if member.miss is not None and abs(member.miss) > _NOTED_MISS:
            assert member.target is not None
            latency = cost == "latency"
            target = f"{1000 * member.target:g} ms" if latency else f"{member.target:,} {cost}"
            yield f"{member.name} misses its target of {target} by {member.miss:+.1%}"


def _test_result(told: Measurement, classes: int) -> export.Trained:
    assert told.accuracy is not None  # it is COMPLETE
    assert told.images is not None
    accuracies = tuple(told.details.get(f"accuracy of class {index}") for index in range(classes))
    known = accuracies if told.details else ()
    return export.Trained(told.accuracy, told.images, told.train_seconds, known)


def _trained(job: Job, evaluate: TrainingEvaluator) -> Network:
    """The network of a finished training run, with its weights."""
    try:
        return evaluate.network(job)
    except TrainingFailed as failure:
        raise StageFailed(f"family: {job.name}: {failure}") from None
