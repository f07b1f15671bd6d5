import errno
import io
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments import cli, config
from space import choices, presets
from space.cost import cost
from space.network import build


def phiscale(monkeypatch, *arguments: str) -> int:
    """Runs the command line in process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", ["phiscale", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


COMMANDS = [command.name for command in cli.app.registered_commands]


def words(text: str) -> str:
    """What a box of help says, without its lines and line ends."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("number", ["1" + 400 * "0", "-1"])
@pytest.mark.parametrize(
    "words",
    [
        ["cost", "mnasnet_small", "--resolution"],
        ["show", "mnasnet_small", "--resolution"],
        ["latency", "mnasnet_small", "--batch"],
        ["latency", "mnasnet_small", "--threads"],
        ["estimate", "demo", "--hours"],
        ["estimate", "demo", "--machines"],
        ["init", ".", "--hours"],
        ["trials", "run", "--top"],
        ["best", "run", "--top"],
        ["predict", "run", "image.png", "--top"],
        ["watch", "run", "--port"],
    ],
)
def test_every_number_of_the_command_line_has_limits(monkeypatch, capsys, words, number) -> None:
    assert phiscale(monkeypatch, *words, number) == 2
    assert f"Invalid value for '{words[-1]}'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, monkeypatch, capsys):
    assert phiscale(monkeypatch, command, "--help") == 0
    said = capsys.readouterr().out
    assert f"Example: phiscale {command}" in words(said)
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("command", [(), ("run",)])
def test_help_stays_readable_on_a_wide_terminal(command):
    program = [sys.executable, "-m", "experiments", *command, "--help"]
    environment = os.environ | {"COLUMNS": "200"}
    said = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    "arguments", [("--help",), ("presets",), ("cost", "efficientnet_b0", "--explain")]
)
def test_a_terminal_that_lacks_characters_shows_others(arguments, encoding, monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)
    assert phiscale(monkeypatch, *arguments) == 0
    output.flush()
    assert b"?" in output.buffer.getvalue() or encoding == "cp1252"


def test_json_loses_no_character_where_the_output_is_not_in_utf_8(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    assert phiscale(monkeypatch, "cost", "efficientnet_b0", "--explain", "--json") == 0
    output.flush()
    because = json.loads(output.buffer.getvalue())["tools"][0]["because"]
    assert "multiply–add" in because


def test_help_says_what_exit_statuses_mean(monkeypatch, capsys):
    assert phiscale(monkeypatch, "--help") == 0
    said = words(capsys.readouterr().out)
    assert "Exit status: 0 done, 1 failed, 2 wrong use or bad input, 130 interrupted." in said


def test_the_version_is_the_packages(monkeypatch, capsys):
    assert phiscale(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"phiscale {metadata.version('phiscale')}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("phiscale stat", {"status"}),
        ("phiscale show efficientnet_b", {f"efficientnet_b{n}" for n in range(9)}),
        ("phiscale run cif", {"cifar10", "cifar10-gpu"}),
        ("phiscale run demo --set search.tri", {"search.trials="}),
        ("phiscale status runs/", {"runs/mine"}),
    ],
)
def test_the_shell_completes_commands_names_and_keys(typed, offered, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "recipe.yaml").touch()
    completion = {
        "_PHISCALE_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    found = subprocess.run(
        [sys.executable, "-m", "experiments"],
        env=os.environ | completion,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert offered <= set(found.stdout.split())
    assert all(name.startswith(typed.split()[-1]) for name in found.stdout.split())


def test_cost_prints_exact_json(monkeypatch, capsys):
    assert phiscale(monkeypatch, "cost", "efficientnet_b7", "--resolution", "600", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = {
        "name": "efficientnet_b7",
        "resolution": 600,
        "macs": 37_745_884_192,
        "params": 66_347_960,
        "activations": 289_938_464,
    }
    assert expected.items() <= found.items()
    assert sum(part["cost"]["macs"] for part in found["parts"]) == found["macs"]


def test_cost_explains_what_other_tools_say(monkeypatch, capsys):
    assert phiscale(monkeypatch, "cost", "efficientnet_b0", "--explain", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {count["tool"]: count["total"] for count in found["tools"]} == {
        "phiscale": 385_814_752,
        "fvcore": 401_659_392,
        "thop": 415_145_024,
        "torch FlopCounterMode": 771_629_504,
    }


def test_weights_of_another_library_are_converted_and_back(tmp_path, monkeypatch):
    network = build(presets.load("mnasnet_small"))
    save_file(network.state_dict(), tmp_path / "ours.safetensors")
    theirs, again = tmp_path / "theirs.safetensors", tmp_path / "again"
    source, ours = "timm/mnasnet_small", str(tmp_path / "ours.safetensors")
    assert phiscale(monkeypatch, "convert", source, ours, "--out", str(theirs), "--back") == 0
    assert phiscale(monkeypatch, "convert", source, str(theirs), "--out", str(again)) == 0
    assert phiscale(monkeypatch, "convert", str(theirs), "--out", str(tmp_path / "guessed")) == 0
    for folder in (again, tmp_path / "guessed"):
        found = load_file(folder / "model.safetensors")
        assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
    assert phiscale(monkeypatch, "convert", ours, "--out", str(tmp_path / "own")) == 2


@pytest.mark.parametrize("name", ["net.json", "net.JSON"])
def test_cost_reads_an_architecture_from_a_file(name, tmp_path, monkeypatch, capsys):
    network = presets.load("mobilenet_v2", num_classes=7)
    path = tmp_path / name
    path.write_text(json.dumps(network.to_dict()), "utf-8")
    assert phiscale(monkeypatch, "cost", str(path), "--json") == 0
    parameters = sum(tensor.numel() for tensor in build(network).parameters())
    assert json.loads(capsys.readouterr().out)["params"] == parameters == cost(network).params


def test_lists_name_everything_that_is_shipped(monkeypatch, capsys):
    for command, names in (
        ("presets", presets.names()),
        ("spaces", choices.names()),
        ("recipes", [*config.names(), *config.study_names()]),
    ):
        assert phiscale(monkeypatch, command, "--json") == 0
        assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cost", "eficientnet_b7"), "did you mean 'efficientnet_b7'?"),
        (("cost", "nowhere.json"), "nowhere.json: not found"),
        (("run", "dmo"), "did you mean 'demo'?"),
        (("serch", "demo"), "Did you mean 'search'?"),
        (("run", "demo", "--quite"), "--quiet"),
        (("run", "demo", "--set", "serach.trials=3"), "did you mean 'search'?"),
        (("run", "demo", "--set", "space=mnasnet_smal"), "did you mean 'mnasnet_small'?"),
        (("run", "demo", "--set", "data.format=foldr"), "did you mean 'folder'?"),
        (("run", "demo", "--set", "search.trails=3"), "did you mean 'trials'?"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_status_2(arguments, message, monkeypatch, capsys):
    assert phiscale(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert message in output.err.replace("\n", " ")
    assert "Traceback" not in output.err
    assert output.out == ""


def test_a_folder_that_cannot_be_one_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("mine", "utf-8")
    for command, recipe in (("run", "demo"), ("study", "study-width")):
        for out, said in ((tmp_path / "file", "is a file"), (tmp_path / ("x" * 300), "too long")):
            assert phiscale(monkeypatch, command, recipe, "--out", str(out)) == 2
            error = capsys.readouterr().err
            assert error.startswith("phiscale: --out ")
            assert said in error
    assert (tmp_path / "file").read_text("utf-8") == "mine"


def test_a_disk_that_is_full_or_closed_is_a_sentence(tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "recipe.yaml"))

    monkeypatch.setattr("experiments.runs.recipe_changes.write_file", full)
    assert phiscale(monkeypatch, "run", "demo", "--out", str(tmp_path / "run")) == 1
    said = capsys.readouterr().err
    assert said == f"phiscale: {tmp_path}/recipe.yaml: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")
def test_output_that_cannot_be_written_is_a_sentence():
    command = [sys.executable, "-m", "experiments", "presets"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("phiscale: ")
    assert ended.stderr.endswith("No space left on device\n")
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_is_status_130_wherever_it_falls(monkeypatch, capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(presets, "names", interrupted)
    assert phiscale(monkeypatch, "presets") == 130
    assert capsys.readouterr().err == "phiscale: interrupted\n"


def test_wrong_use_is_status_2(monkeypatch, capsys):
    assert phiscale(monkeypatch, "cost") == 2
    assert "NETWORK" in capsys.readouterr().err


def test_a_stage_without_its_input_names_the_stage_to_run(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert phiscale(monkeypatch, "family", "demo", "--out", str(folder)) == 2
    assert "run the stage that writes it: phiscale search" in capsys.readouterr().err


def test_a_recipe_that_cannot_be_run_leaves_no_folder(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert phiscale(monkeypatch, "run", "demo", "--out", str(folder), "--set", "seed=-1") == 2
    assert not Path(folder).exists()
    assert "demo: seed: input should be greater than or equal to 0" in capsys.readouterr().err


def test_help_waits_for_nothing_heavy():
    program = "import sys, experiments.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "ray", "optuna", "sqlalchemy", "pandas", "numpy", "PIL", "tensorboard"}
    assert heavy & set(done.stdout.split()) == set()
