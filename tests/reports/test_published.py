import csv
from dataclasses import replace

import pytest

from reports import page, published, tables
from reports.load import load


def test_the_published_numbers_are_those_of_the_papers(shared):
    found = {network.name: network for network in published.NETWORKS}
    with (shared / "reference" / "published_imagenet.csv").open() as file:
        printed = {row["model"]: row for row in csv.DictReader(file) if row["flops_billions"]}
    with (shared / "reference" / "efficientnet.csv").open() as file:
        for row in csv.DictReader(file):
            printed[row["model"].replace("efficientnet_b", "EfficientNet-B")] = {
                "params_millions": row["paper_params_millions"],
                "flops_billions": row["paper_flops_billions"],
                "top1": row["paper_top1"],
            }
    assert found.keys() == printed.keys()
    for name, row in printed.items():
        assert found[name].params == pytest.approx(float(row["params_millions"]) * 1e6)
        assert found[name].macs == pytest.approx(float(row["flops_billions"]) * 1e9)
        assert found[name].accuracy == pytest.approx(float(row["top1"]) / 100)


def test_the_published_scaling_is_that_of_the_paper(shared):
    with (shared / "reference" / "published_scaling.csv").open() as file:
        printed = [
            (row["base"], row["method"], row["flops_billions"], row["imagenet_top1"])
            for row in csv.DictReader(file)
        ]
    found = [
        (row.base, row.rule, f"{row.macs / 1e9:.1f}", f"{100 * row.accuracy:.1f}")
        for row in published.SCALED
    ]
    assert found == printed


def test_a_family_is_in_order_of_macs_and_some_have_none():
    names = [network.name for network in published.family("mnasnet_a1")]
    assert names == ["MnasNet-A1", "MnasNet-A2", "MnasNet-A3"]
    assert published.family("mobilenet_v1") == ()


def test_published_networks_stand_beside_runs_on_imagenets_classes_alone(finished_run):
    run = load(finished_run)
    assert run.num_classes == 10
    assert "MnasNet-A1" not in page.render(run, tables.collect(run))
    first, *others = run.study("search")
    wide = replace(first, architecture=first.architecture | {"num_classes": 1000})
    run = replace(run, trials=dict(run.trials) | {"search": (wide, *others)})
    html = page.render(run, tables.collect(run))
    assert "MnasNet-A1" in html
    assert published.SOURCES in html


def test_a_folder_of_timms_results_replaces_the_papers(finished_run, shared):
    run = load(finished_run)
    first, *others = run.study("search")
    wide = replace(first, architecture=first.architecture | {"num_classes": 1000})
    folder = shared / "data" / "timm_results"
    run = replace(
        run,
        trials=dict(run.trials) | {"search": (wide, *others)},
        recipe=dict(run.recipe) | {"report": {"published": str(folder)}},
    )
    shown = {point["name"]: point for point in published.points(run)}
    assert len(shown) == 1266
    b0 = shown["tf_efficientnet_b0.in1k"]
    assert (b0["resolution"], b0["macs"]) == (224, 400_000_000)
    assert b0["accuracy"] == pytest.approx(0.76542)
    html = page.render(run, tables.collect(run))
    assert "tf_efficientnet_b0.in1k" in html
    assert "MnasNet-A1" not in html
    assert published.SOURCES not in html
