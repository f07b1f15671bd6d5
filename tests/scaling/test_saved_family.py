"""Families on disk: what is written is what was trained, and nothing else is believed."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.coefficients import PUBLISHED
from scaling.export import About, ExportMismatch, Trained, export_member, write_family
from scaling.family import PlannedMember, family_at
from scaling.formats import Format
from scaling.saved_family import Preprocessing, load_family
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.network import Network, build
from space.validation import InvalidInput

BASELINE = Architecture(
    Stem(8, stride=1),
    (Stage(Operator.CONV, 8), Stage(Operator.INVERTED, 16, 2, 3, 2, 3.0, SqueezeExcite())),
    Head(32),
    resolution=12,
    num_classes=3,
    dropout=0.1,
)
ABOUT = About(
    name="pets",
    classes=("cat", "dog", "<b>|`\n# owl"),
    preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
)
TRAINED = Trained(accuracy=0.75, images=20, train_seconds=1.5)
FORMATS = (Format.TORCH, Format.ONNX, Format.CARD)
#: The formats that take no time to write.
QUICK = (Format.SAFETENSORS, Format.TORCH)
MEMBERS = family_at(BASELINE, PUBLISHED, (0, 1)).members


def images(member: PlannedMember) -> torch.Tensor:
    pixels = member.resolution
    return torch.randn(4, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))


def trained(member: PlannedMember) -> Network:
    """Weights and batch statistics that no fresh network has: as if it had been trained."""
    torch.manual_seed(sum(member.name.encode()))
    network = build(member.architecture)
    network(images(member) * 2 + 1)
    return network


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "family"
    records = [
        export_member(
            folder, member, trained(member), TRAINED, ABOUT, images(member), formats=FORMATS
        )
        for member in MEMBERS
    ]
    write_family(folder, records, PUBLISHED, ABOUT)
    return folder


@pytest.fixture
def family(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(exported, tmp_path / "family")


def edit(family: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((family / "family.json").read_text())
    change(data)
    (family / "family.json").write_text(json.dumps(data))


def refused(family: Path) -> str:
    with pytest.raises(InvalidInput) as error:
        [member.load() for member in load_family(family)]
    return str(error.value)


def test_a_family_comes_back_as_it_was_trained(exported: Path) -> None:
    family = load_family(exported)
    assert [member.name for member in family] == ["b0", "b1"]
    assert len(family) == 2
    assert family["b1"] is family[1]
    assert family.classes == ABOUT.classes
    assert family.preprocessing == ABOUT.preprocessing
    assert family.coefficients == PUBLISHED
    for member, saved in zip(MEMBERS, family, strict=True):
        assert saved.architecture == member.architecture
        assert saved.cost == member.cost
        assert (saved.phi, saved.accuracy) == (member.phi, 0.75)
        network = saved.load()
        assert not network.training
        expected = trained(member).eval()
        with torch.no_grad():
            assert torch.equal(network(images(member)), expected(images(member)))


def test_family_json_has_the_hash_of_every_file(exported: Path) -> None:
    data = json.loads((exported / "family.json").read_text())
    for member in data["members"]:
        folder = exported / member["name"]
        assert {*member["files"], "README.md"} == {path.name for path in folder.iterdir()}
        for name, sha256 in member["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
        assert set(member["cost"]) == {"macs", "params", "activations"}


def test_the_readme_loads_the_member(exported: Path) -> None:
    text = (exported / "b1" / "README.md").read_text()
    (code,) = [part for part in text.split("```") if "load_family" in part]
    code = code.removeprefix("python\n")
    code = code.replace("path/to/family", str(exported))
    names: dict[str, Any] = {"images": images(MEMBERS[1])}
    exec(code, names)
    assert names["logits"].shape == (4, 3)
    assert f"{MEMBERS[1].cost.macs:,}" in text
    assert "**75.00%** accuracy of 20 test images" in text


def test_class_names_cannot_end_the_readmes_list(exported: Path) -> None:
    text = (exported / "b0" / "README.md").read_text()
    assert text.splitlines()[-1] == '    ["cat", "dog", "<b>|`\\n# owl"]'


def test_an_unfinished_export_is_no_family(family: Path) -> None:
    (family / "family.json").unlink()
    assert refused(family) == f"{family / 'family.json'}: cannot be read: No such file or directory"


def test_weights_that_compute_something_else_are_not_exported(tmp_path: Path) -> None:
    class Wrong(Network):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0.5

    network = Wrong(MEMBERS[0].architecture)
    with pytest.raises(ExportMismatch, match=r"b0: .* differ by up to 0\.5 "):
        export_member(
            tmp_path, MEMBERS[0], network, TRAINED, ABOUT, images(MEMBERS[0]), formats=QUICK
        )


def test_weights_that_are_not_numbers_are_not_exported(tmp_path: Path) -> None:
    network = trained(MEMBERS[0])
    with torch.no_grad():
        network.classifier.weight[0, 0] = float("nan")
    with pytest.raises(ExportMismatch, match="differ by up to nan"):
        export_member(
            tmp_path, MEMBERS[0], network, TRAINED, ABOUT, images(MEMBERS[0]), formats=QUICK
        )


def test_a_network_in_another_memory_layout_is_exported_alike(
    tmp_path: Path, exported: Path
) -> None:
    member = MEMBERS[0]
    network = trained(member).to(memory_format=torch.channels_last)
    record = export_member(tmp_path, member, network, TRAINED, ABOUT, images(member), formats=QUICK)
    before = load_family(exported)["b0"].record.files
    assert record.files == {name: before[name] for name in record.files}
    assert {"model.safetensors", "model.py"} <= record.files.keys()


def test_exporting_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = trained(MEMBERS[0]).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_member(tmp_path, MEMBERS[0], network, TRAINED, ABOUT, images(MEMBERS[0]), formats=QUICK)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "name", ["architecture.json", "model.safetensors", "config.json", "model.py", "model.onnx"]
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data[:0],
        lambda data: data[: len(data) // 2] + b"\x01" + data[len(data) // 2 + 1 :],
    ],
    ids=["truncated", "empty", "one byte changed"],
)
def test_a_damaged_file_is_named(family: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    path = family / "b1" / name
    path.write_bytes(damage(path.read_bytes()))
    message = refused(family)
    assert message.startswith(f"{path}: SHA-256 must be ")
    assert message.endswith("the file was damaged or replaced; export the family again")


def test_a_missing_file_is_named(family: Path) -> None:
    (family / "b1" / "model.safetensors").unlink()
    assert f"{family / 'b1' / 'model.safetensors'}: not found" in refused(family)


def test_swapped_weights_are_named(family: Path) -> None:
    shutil.copy(family / "b0" / "model.safetensors", family / "b1" / "model.safetensors")
    assert f"{family / 'b1' / 'model.safetensors'}: SHA-256 must be" in refused(family)


def test_weights_changed_after_the_family_was_read_are_named(family: Path) -> None:
    member = load_family(family)["b0"]
    shutil.copy(family / "b1" / "model.safetensors", family / "b0" / "model.safetensors")
    with pytest.raises(InvalidInput, match="SHA-256 must be"):
        member.load()


def test_weights_of_another_network_are_refused_even_with_their_hash(family: Path) -> None:
    shutil.copy(family / "b0" / "model.safetensors", family / "b1" / "model.safetensors")
    edit(
        family,
        lambda data: data["members"][1]["files"].update(
            {"model.safetensors": data["members"][0]["files"]["model.safetensors"]}
        ),
    )
    message = refused(family)
    assert str(family / "b1" / "model.safetensors") in message
    assert "\n" not in message


def test_pickled_weights_are_refused_unopened(family: Path) -> None:
    path = family / "b0" / "model.safetensors"
    weights = load_family(family)["b0"].load().state_dict()
    torch.save({**weights, "padding": torch.zeros(10_000)}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(family, lambda data: data["members"][0]["files"].update({"model.safetensors": sha256}))
    assert f"{path}: must contain the weights of b0, but " in refused(family)


@pytest.mark.parametrize("name", ["../b0", "..", "", "/etc", "b0/..", "a\\b", "\x00", "é"])
def test_names_that_lead_elsewhere_are_refused(family: Path, name: str) -> None:
    edit(family, lambda data: data["members"][0].update(name=name))
    message = refused(family)
    assert message.startswith(
        f"{family / 'family.json'}: members.0.name: must be a plain file name"
    )
    assert repr(name) in message


def test_files_that_lead_elsewhere_are_refused(family: Path) -> None:
    edit(family, lambda data: data["members"][0]["files"].update({"../../x": "0" * 64}))
    assert "must be a plain file name, but got '../../x'" in refused(family)


@pytest.mark.parametrize("linked", ["b1", "b1/model.safetensors"])
def test_links_out_of_the_folder_are_refused(family: Path, tmp_path: Path, linked: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(family / linked, elsewhere)
    (family / linked).symlink_to(elsewhere)
    assert f"must be inside {family}, but links to {elsewhere}" in refused(family)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(resolution=9), "resolution must be 9, as in family.json, but is 12"),
        (lambda m: m.update(key="0" * 32), "key must be 00000"),
        (lambda m: m["cost"].update(macs=1), "cost must be Cost(macs=1, "),
        (lambda m: m.pop("files"), "members.0.files: this required key is missing"),
        (lambda m: m["files"].pop("model.onnx"), ""),
        (
            lambda m: m.update(class_accuracies=[0.5]),
            "accuracies of b0 must be given for each of the 3 classes",
        ),
        (lambda m: m["files"].pop("model.safetensors"), "must include model.safetensors"),
        (lambda m: m.update(name="b1"), "names of members must be unique, but b1"),
        (lambda m: m.update(accuracy="0.9"), "members.0.accuracy: "),
    ],
)
def test_a_family_json_at_odds_with_its_members_is_refused(
    family: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(family, lambda data: change(data["members"][0]))
    if message:
        assert message in refused(family)
    else:
        assert len(load_family(family)) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"members": 3}', "[" * 100_000, "\xff"])
def test_a_family_json_that_is_none_is_refused(family: Path, content: str) -> None:
    (family / "family.json").write_bytes(content.encode("latin1"))
    assert refused(family).startswith(f"{family / 'family.json'}: ")


@pytest.mark.parametrize(
    ("channels", "repeats", "count", "file", "reason"),
    [
        (4_096, 3, 1, "model.safetensors", "must have at least"),
        (65_536, 1000, 1000, "architecture.json", "must have at most 1000000000 parameters"),
    ],
)
def test_a_network_larger_than_its_weights_is_never_built(
    family: Path, channels: int, repeats: int, count: int, file: str, reason: str
) -> None:
    path = family / "b0" / "architecture.json"
    huge = replace(BASELINE, stages=(Stage(Operator.CONV, channels, repeats=repeats),) * count)
    path.write_text(json.dumps(huge.to_dict()))

    def pretend(data: dict[str, Any]) -> None:
        cost = PlannedMember("b0", 0, 1, 1, huge).cost._asdict()
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        data["members"][0].update(cost=cost)
        data["members"][0]["files"]["architecture.json"] = sha256

    edit(family, pretend)
    message = refused(family)
    assert message.startswith(f"{family / 'b0' / file}: ")
    assert reason in message


def test_an_unknown_member_gets_the_nearest_name(exported: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no 'b2'; did you mean 'b1'|'b0'"):
        load_family(exported)["b2"]


def test_planning_and_checking_need_no_torch() -> None:
    code = (
        "import sys; import scaling.family, scaling.export, scaling.targets\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules or 'ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    loud = f"import torch\n{code}"
    assert subprocess.run([sys.executable, "-c", loud]).returncode == 1
