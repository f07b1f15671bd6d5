import socket
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest

from reports import page, server
from space.validation import InvalidInput


@pytest.fixture
def ask(finished_run):
    """`ask(path, host=…)` gives status, headers and body from a live server of the finished run."""
    yield from _asking(finished_run)


def _asking(run):
    made = server.server(run)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    address = made.server_address

    def ask(path, host=None):
        connection = HTTPConnection(*address, timeout=60)
        connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{address[1]}"})
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    ask.address = address
    yield ask
    made.shutdown()
    thread.join()
    made.server_close()


def test_what_is_served_is_what_would_be_written(ask, copied_run):
    folder = page.write(copied_run).parent
    for name in ("", "index.html", "trials.csv", "columns.csv", "coefficients.svg"):
        status, headers, body = ask(f"/{name}")
        assert status == 200
        assert body == (folder / (name or "index.html")).read_bytes()
        assert headers["Cache-Control"] == "no-store"


def test_serving_writes_nothing(ask, finished_run):
    before = sorted(path.name for path in Path(finished_run).rglob("*"))
    ask("/")
    ask("/search_progress.png")
    assert sorted(path.name for path in Path(finished_run).rglob("*")) == before


@pytest.mark.parametrize(
    "path", ["/study.db", "/../recipe.yaml", "/%2e%2e/study.db", "//etc/passwd", "/trials.html"]
)
def test_nothing_but_the_report_is_served(ask, path):
    assert ask(path)[0] == 404


def test_other_hosts_names_are_refused(ask):
    assert ask("/", host="evil.example")[0] == 403
    assert ask("/", host="127.0.0.1:1")[0] == 403


def test_only_this_machine_is_served(finished_run):
    with server.server(finished_run) as made:
        assert made.server_address[0] == "127.0.0.1"


def test_a_finished_run_is_not_asked_for_again(ask):
    assert "Refresh" not in ask("/")[1]


def test_a_running_run_is_asked_for_again_and_shown_as_it_is(copied_run, monkeypatch):
    monkeypatch.setattr(server, "FRESH", 0.0)
    family = copied_run / "family" / "family.json"
    (whole := family.rename(copied_run / "family" / "later.json"))
    asking = _asking(copied_run)
    ask = next(asking)
    _, headers, body = ask("/")
    assert headers["Refresh"] == "0"
    assert b"The search found a baseline" in body
    whole.rename(family)
    assert b"B3" in ask("/")[2]
    with pytest.raises(StopIteration):
        next(asking)


def test_a_run_that_breaks_meanwhile_is_said_to_be_broken(copied_run, monkeypatch):
    monkeypatch.setattr(server, "FRESH", 0.0)
    asking = _asking(copied_run)
    ask = next(asking)
    (copied_run / "baseline.json").write_text("{")
    status, _, body = ask("/")
    assert status == 503
    assert b"not valid JSON" in body
    with pytest.raises(StopIteration):
        next(asking)


def test_a_broken_run_is_refused_at_once(tmp_path):
    with pytest.raises(InvalidInput, match="run directory not found"):
        server.server(tmp_path / "nowhere")


def test_a_port_that_is_in_use_is_refused_by_number(finished_run, ask):
    port = ask.address[1]
    with pytest.raises(InvalidInput, match=rf"--port {port}: not available .* choose another"):
        server.server(finished_run, port=port)


@pytest.mark.parametrize(("error", "printed"), [(BrokenPipeError, False), (KeyError, True)])
def test_a_browser_that_leaves_before_its_answer_prints_nothing(
    finished_run, capsys, error, printed
):
    with server.server(finished_run) as made:
        try:
            raise error
        except error:
            made.handle_error(None, ("127.0.0.1", 1))
    assert bool(capsys.readouterr().err) is printed


def test_connections_that_say_nothing_are_few_and_are_closed(finished_run, monkeypatch):
    monkeypatch.setattr(server, "_SILENCE", 0.5)
    before = threading.active_count()
    for ask in _asking(finished_run):
        silent = [socket.create_connection(ask.address) for _ in range(4 * server._CONNECTIONS)]
        assert ask("/")[0] == 200  # after those before it were given up
        assert threading.active_count() <= before + 1 + server._CONNECTIONS
        for connection in silent:
            connection.close()
