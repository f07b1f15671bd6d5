"""What a run shows is what has happened: counts, the best, failures, and what is left."""

import io
import re
from dataclasses import replace

import optuna
import pytest
from rich.console import Console

from experiments import progress
from experiments.conduct import Observed
from experiments.progress import log
from experiments.progress.display import Earlier, ProgressDisplay, earlier
from scaling.jobs import InOrder
from search.executors.local import Local
from search.recorded_jobs import Recorded, accuracy
from space import presets
from space.cost import cost
from space.evaluation import Budget, Epoch, Job, Measurement, Status

NETWORK = replace(presets.load("mnasnet_small"), resolution=32)


def jobs(count: int, epochs: int = 2) -> list[Job]:
    return [
        Job(f"job {i}", replace(NETWORK, resolution=32 + i), Budget(epochs)) for i in range(count)
    ]


def measured(value: float) -> Measurement:
    return Measurement(Status.COMPLETE, accuracy=value, epochs=(Epoch(1, 1.0, value, 1.0, 0.0),))


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.display.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def terminal(monkeypatch) -> Console:
    """A terminal of 80 columns in memory."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(progress.display, "console", console)
    monkeypatch.setattr(log, "console", console)
    return console


def drawn(display: ProgressDisplay, console: Console) -> str:
    with console.capture() as capture:
        console.print(display._table())
    return capture.get()


def searching(count: int) -> tuple[ProgressDisplay, Observed]:
    """A display, and the proposer of `count` jobs that it looks on."""
    display = ProgressDisplay("search", count, accuracy)
    return display, Observed(InOrder(jobs(count)), [display])


def test_several_running_training_runs_are_shown_each_with_its_epoch(clock, terminal):
    display, watched = searching(4)
    first, second = watched.ask(), watched.ask()
    clock.now += 3
    watched.report(second, Epoch(1, 1.0, 0.625, 1.0, 3.0))
    shown = drawn(display, terminal)
    macs = f"{cost(first.architecture).macs / 1e6:.2f}M"
    assert re.search(rf"job 0 +{macs} +0/2 +3\.0 s", shown)
    assert re.search(r"job 1 +[\d.]+M +1/2 +62\.5.% +3\.0 s", shown)
    assert max(map(len, shown.splitlines())) <= 80


def test_many_running_training_runs_fit_the_screen(terminal):
    display, watched = searching(40)
    for _ in range(40):
        watched.ask()
    shown = drawn(display, terminal)
    assert "and 24 more" in shown
    assert len(shown.splitlines()) < 24


def test_the_best_and_what_is_left_follow_from_what_was_told(clock, terminal):
    display, watched = searching(4)
    for value in (0.5, 0.75, 0.25):
        job = watched.ask()
        clock.now += 10
        watched.tell(job, measured(value))
    shown = drawn(display, terminal)
    assert "3/4" in shown
    assert "best: job 1, 75.0\N{NO-BREAK SPACE}%" in shown
    assert "10 s left" in shown


def test_two_at_a_time_take_half_as_long(clock, terminal):
    display, watched = searching(12)
    pair = [watched.ask(), watched.ask()]
    for _ in range(4):
        clock.now += 10
        for job in pair:
            watched.tell(job, measured(0.5))
        pair = [watched.ask(), watched.ask()]
    assert "20 s left" in drawn(display, terminal)


def test_failures_are_counted_by_reason(terminal):
    display, watched = searching(3)
    for reason in ("diverged", "out of memory", "diverged"):
        watched.tell(watched.ask(), Measurement(Status.FAILED, reason=reason))
    shown = drawn(display, terminal)
    assert "3 failed" in shown
    assert "failed: 2 × diverged; 1 × out of memory" in shown
    assert "0/3" in shown


def test_markup_in_a_reason_is_text(terminal):
    display, watched = searching(1)
    watched.tell(watched.ask(), Measurement(Status.FAILED, reason="[bold]no[/nothing]\x1b[2J"))
    assert "[bold]no[/nothing]⟨U+001B⟩[2J" in drawn(display, terminal)


def test_what_a_study_answers_is_done_and_says_nothing_of_the_pace(terminal, clock):
    study = optuna.create_study(direction="maximize")

    def evaluate(*_) -> Measurement:
        clock.now += 5
        return replace(measured(0.5), train_seconds=5.0)

    Local().run(Recorded(InOrder(jobs(3)), study), evaluate)
    with ProgressDisplay("family", jobs(4), accuracy) as display:
        observed = Observed(InOrder(jobs(4)), [display])
        observed.proposer = Recorded(observed.proposer, study, answered=observed.answered)
        job = observed.ask()
        assert job.name == "job 3"
        shown = drawn(display, terminal)
        assert "3/4" in shown
        assert "left" not in shown


def test_a_search_that_goes_on_shows_what_was_done_before():
    study = optuna.create_study(direction="maximize")
    Local().run(Recorded(InOrder(jobs(3)), study), lambda *_: measured(0.5))
    before = earlier(study)
    assert before == Earlier(3, before.best)
    assert before.best.name == "job 0"
    assert before.best.macs == cost(jobs(1)[0].architecture).macs


def test_without_a_terminal_every_training_is_a_line_that_the_log_has_too(tmp_path, capsys):
    with log.recorded(tmp_path), ProgressDisplay("family", jobs(2), accuracy) as display:
        watched = Observed(InOrder(jobs(2)), [display])
        for value in (0.5, 0.75):
            watched.tell(watched.ask(), measured(value))
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert re.fullmatch(
        r"family 2/2  job 1: .*M MACs, complete 75\.0.% in .* s; best job 1.*", lines[1]
    )
    logged = (tmp_path / log.FILE).read_text("utf-8").splitlines()
    assert [line.split("  ", 1)[1] for line in logged] == lines
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", line) for line in logged)


def test_quiet_shows_nothing_but_trouble_and_logs_all(tmp_path, capsys):
    with log.recorded(tmp_path, quiet=True):
        log.note("a note")
        log.remark("a remark")
        log.trouble("trouble")
    assert capsys.readouterr().err == "phiscale: trouble\n"
    assert len((tmp_path / log.FILE).read_text("utf-8").splitlines()) == 3


def test_a_log_that_cannot_be_written_does_not_end_a_run(tmp_path, capsys):
    (tmp_path / log.FILE).mkdir()
    with log.recorded(tmp_path):
        log.note("still here")
    assert "cannot be written, so there is no log" in capsys.readouterr().err
