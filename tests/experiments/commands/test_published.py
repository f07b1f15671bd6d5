"""`phiscale published` reads what a folder has, and names what it lacks."""

import json

import pytest

from experiments import config
from experiments.runs.recipe_changes import changed, prepared

TIMES = """model,infer_img_size,infer_samples_per_sec,param_count,infer_gmacs,infer_macts
resnet18,224,300,11.69,1.82,2.48
vgg11,224,100,132.86,7.61,7.44
densenet121,224,200,7.98,2.87,6.90
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "benchmark-infer-amp-card.csv").write_text(TIMES, "utf-8")
    return tmp_path


def test_it_says_what_it_found_and_what_it_left_out(phiscale, folder):
    said = phiscale("published", folder)
    assert said.status == 0
    assert "Kendall τ of a cost with the time of an image on amp-card: MACs 1.00" in " ".join(
        said.out.split()
    )
    assert "nothing is said of accuracy" in " ".join(said.err.split())


def test_json_and_page_hold_the_same(phiscale, folder, tmp_path):
    said = phiscale("published", folder, "--json", "--out", tmp_path / "page")
    found = json.loads(said.out)
    assert found == json.loads((tmp_path / "page" / "published.json").read_text("utf-8"))
    assert found["times"][0]["macs"] == pytest.approx(1)
    assert (tmp_path / "page" / "index.html").is_file()


def test_a_folder_without_costs_is_refused(phiscale, tmp_path):
    said = phiscale("published", tmp_path / "nowhere")
    assert said.status == 2
    assert "has no benchmark-infer-*.csv" in " ".join(said.err.split())


def test_a_run_finds_the_folder_of_its_recipe_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = changed(config.load("demo"), {"report.published": "timm/results"})
    _, recipe, _ = prepared(tmp_path / "run", recipe)
    assert recipe.report.published == str(tmp_path / "timm" / "results")
