"""Images are decoded once, whole or not at all, and shared."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.config import DataConfig
from experiments.data import cache as image_cache
from experiments.data import decode, parallel
from experiments.data.images import Images
from experiments.data.load import default_cache, load
from space.validation import InvalidInput

REPOSITORY = Path(__file__).resolve().parents[3]


def everything(images: Images) -> Any:
    return images.read(np.arange(len(images)))


@pytest.fixture
def no_decoding(monkeypatch) -> Any:
    """Makes any decoding fail from now on, when called."""

    def forbid() -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("an image was decoded again")

        monkeypatch.setattr(decode, "decode", refuse)

    return forbid


# -------------------------------------------------------------------------------- found again


def test_a_second_start_reads_no_image_file(tree, loaded, monkeypatch) -> None:
    root = tree({"a": 5, "b": 5})
    first = loaded(root)

    def refuse(path: Path) -> bytes:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    second = loaded(root)
    assert np.array_equal(everything(first.train), everything(second.train))
    assert first.summary == second.summary


def test_moved_and_touched_files_are_not_decoded_again(tree, loaded, tmp_path, no_decoding) -> None:
    root = tree({"a": 5, "b": 5})
    first = loaded(root)
    no_decoding()
    moved = shutil.move(root, tmp_path / "elsewhere")
    os.utime(moved / "a/0.png", (0, 0))
    assert loaded(moved).fingerprint == first.fingerprint


def test_changed_files_are_seen(tree, loaded, png) -> None:
    root = tree({"a": 5, "b": 5})
    first = loaded(root)
    (root / "a/0.png").write_bytes(png(1000))
    changed = loaded(root)
    assert changed.fingerprint != first.fingerprint
    (root / "a/0.png").unlink()
    assert sum(loaded(root).summary.images.values()) == 9
    (root / "a/0.png").write_bytes(png(0))
    assert loaded(root).fingerprint == first.fingerprint


def test_names_of_files_do_not_matter(tree, loaded) -> None:
    root = tree({"a": 6, "b": 6})
    first = loaded(root)
    for index in range(6):
        (root / f"a/{index}.png").rename(root / f"a/{9 - index}-renamed.png")
    second = loaded(root)
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(everything(first.held_out), everything(second.held_out))


def test_size_and_channels_have_stores_of_their_own(tree, loaded) -> None:
    root = tree({"a": 5, "b": 5})
    assert everything(loaded(root, 4).train).shape[1:] == (4, 4, 3)
    assert everything(loaded(root, 8).train).shape[1:] == (8, 8, 3)
    assert everything(loaded(root, 8, channels=1).train).shape[1:] == (8, 8, 1)


def test_nothing_is_stored_larger_than_it_is(tree, loaded, no_decoding) -> None:
    root = tree({"a": 5, "b": 5})
    small = loaded(root, 8)
    no_decoding()
    large = loaded(root, 100)
    assert large.train.resolution == 8
    assert large.fingerprint == small.fingerprint


def test_the_division_does_not_depend_on_the_stored_size(tree, loaded) -> None:
    root = tree({"a": 20, "b": 20})
    means = [everything(loaded(root, size).held_out).mean(axis=(1, 2)).round(-1) for size in (8, 4)]
    assert np.abs(means[0] - means[1]).max() <= 10


# ------------------------------------------------------------------------------- whole or absent

LOAD = """
import os, signal, sys
from pathlib import Path
from experiments.config import DataConfig
from experiments.data.load import load

told = set()

def progress(what, done, total):
    told.add(what)
    if what == sys.argv[3] and done >= 100:
        os.kill(os.getpid(), signal.SIGKILL)

config = DataConfig(source=sys.argv[1], cache=Path(sys.argv[2]))
print(load(config, resolution=8, seed=0, progress=progress).fingerprint)
print("decoded" if "Decoding images" in told else "found")
"""


def start(source: Path, cache: Path, kill_while: str = "") -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", LOAD, str(source), str(cache), kill_while]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


@pytest.mark.parametrize("moment", ["Reading images", "Decoding images"])
def test_a_killed_decode_leaves_nothing_that_counts(tree, loaded, tmp_path, moment) -> None:
    root, cache = tree({"a": 60, "b": 60}), tmp_path / "cache"
    killed = start(root, cache, kill_while=moment)
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    assert bool(list(cache.glob("images/*.partial"))) == (moment == "Decoding images")
    assert not list(cache.glob("sources/*"))
    assert sum(loaded(root).summary.images.values()) == 120
    assert not list(cache.glob("images/*.partial"))


def test_what_a_killed_decode_of_other_images_left_is_swept_up(tree, loaded, tmp_path) -> None:
    left = tmp_path / "cache/images/0123-8.partial"
    left.mkdir(parents=True)
    (left / "pixels.npy").write_bytes(b"half")
    loaded(tree({"a": 5, "b": 5}))
    assert not left.exists()


def test_an_interruption_leaves_nothing(tree, tmp_path) -> None:
    root = tree({"a": 60, "b": 60})

    def interrupt(what: str, *_: int) -> None:
        if what == "Decoding images":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(
            DataConfig(source=str(root), cache=tmp_path / "cache"),
            resolution=8,
            seed=0,
            progress=interrupt,
        )
    assert [path.suffix for path in (tmp_path / "cache/images").iterdir()] in ([], [".lock"])


def test_processes_that_start_together_decode_once(tree, tmp_path) -> None:
    root, cache = tree({"a": 60, "b": 60}), tmp_path / "cache"
    started = [start(root, cache) for _ in range(3)]
    told = [process.communicate(timeout=60)[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len({fingerprint for fingerprint, _ in told}) == 1
    assert sorted(how for _, how in told) == ["decoded", "found", "found"]


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "empty manifest", "other version"])
def test_a_damaged_store_is_written_again(tree, loaded, tmp_path, capsys, damage: str) -> None:
    root = tree({"a": 5, "b": 5})
    before = everything(loaded(root).train)
    [folder] = (path for path in (tmp_path / "cache/images").iterdir() if path.is_dir())
    match damage:
        case "truncated":
            os.truncate(folder / "pixels.npy", 200)
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "empty manifest":
            (folder / "manifest.json").write_text("{}")
        case "other version":
            manifest = json.loads((folder / "manifest.json").read_text())
            changed = manifest | {"version": manifest["version"] - 1}
            (folder / "manifest.json").write_text(json.dumps(changed))
    capsys.readouterr()
    assert np.array_equal(everything(loaded(root).train), before)
    assert "Decoding images" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_told(tree, loaded, tmp_path, monkeypatch) -> None:
    root = tree({"a": 5, "b": 5})
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"data.cache: cannot write to .*file"):
        loaded(root, cache=tmp_path / "file")
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InvalidInput, match=r"0.0 GB are needed, 0.0 GB are free\)"):
        loaded(root)


def test_the_cache_is_in_the_users_cache_folder(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache() == Path("/x/phiscale")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/y")
    assert default_cache() == Path("/home/y/.cache/phiscale")


# ------------------------------------------------------------------------------ as a trainer reads


@pytest.fixture(params=["decoded", "compressed"])
def both(request, tree, loaded) -> Any:
    """A data set in each way of keeping it."""
    limit = 10 * 8 * 8 * 3
    return loaded(
        tree({"a": 5, "b": 5}), cache_limit=limit if request.param == "decoded" else limit - 1
    )


def test_a_large_data_set_is_kept_compressed_and_reads_the_same(tree, loaded) -> None:
    root = tree({"a": 40, "b": 40})
    decoded, compressed = loaded(root, 5), loaded(root, 5, cache_limit=1)
    assert decoded.train.pixels is not None
    assert compressed.train.pixels is None
    assert compressed.summary.compressed
    assert decoded.fingerprint == compressed.fingerprint
    for one, two in (
        (decoded.train, compressed.train),
        (decoded.held_out, compressed.held_out),
        (decoded.test, compressed.test),
    ):
        assert np.array_equal(one.labels, two.labels)
        assert np.array_equal(everything(one), everything(two))


@pytest.mark.parametrize("source", ["glyphs", "npz"])
def test_arrays_are_kept_compressed_without_loss(loaded, tmp_path, picture, source: str) -> None:
    if source == "npz":
        source = str(tmp_path / "set.npz")
        images = np.stack([picture(i) for i in range(12)])
        np.savez(source, images=images, labels=np.arange(12) % 2)
    glyphs = {"classes": 2, "train_images": 8, "test_images": 4}
    decoded = loaded(source, 64, glyphs=glyphs)
    compressed = loaded(source, 64, glyphs=glyphs, cache_limit=1)
    assert np.array_equal(everything(decoded.train), everything(compressed.train))


def test_pixels_and_rows_are_what_is_read(tree, loaded) -> None:
    data = loaded(tree({"a": 5, "b": 5}))
    pixels = data.train.pixels
    for images in (data.train, data.held_out, data.full_train, data.test):
        assert images.pixels is pixels
        assert np.array_equal(pixels[images.rows], everything(images))
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable


def test_a_subset_holds_the_images_asked_for(both) -> None:
    every, labels = everything(both.full_train), both.full_train.labels
    some = np.array([4, 0, 4])
    subset = both.full_train.subset(some)
    assert len(subset) == 3
    assert np.array_equal(subset.labels, labels[some])
    assert np.array_equal(everything(subset), every[some])
    assert np.array_equal(subset.subset(np.array([1])).read(np.array([0])), every[[0]])
    assert subset.read(np.array([], np.int64)).shape == (0, 8, 8, 3)


def test_images_travel_to_other_processes_without_their_pixels(both) -> None:
    before = everything(both.train)
    data = pickle.dumps(both)
    assert len(data) < 10 * 8 * 8 * 3 + 4000
    assert np.array_equal(everything(pickle.loads(data).train), before)


def test_what_is_read_may_be_changed(both) -> None:
    first = both.train.read(np.array([0]))
    again = first.copy()
    first[:] = 0
    assert np.array_equal(both.train.read(np.array([0])), again)


# ------------------------------------------------------------------------------- in parallel


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 500])
def test_results_come_in_order(count: int) -> None:
    assert list(parallel.in_order(lambda x: x * x, range(count))) == [x * x for x in range(count)]


def test_work_stops_where_one_fails() -> None:
    done = []

    def work(number: int) -> None:
        if number == 20:
            raise ValueError("no")
        done.append(number)

    with pytest.raises(ValueError, match="no"):
        list(parallel.in_order(work, range(100_000)))
    assert len(done) < 10_000


def test_items_are_drawn_as_they_are_needed() -> None:
    drawn = 0

    def items() -> Any:
        nonlocal drawn
        while drawn < 100_000:
            drawn += 1
            yield drawn

    results = parallel.in_order(lambda x: x, items())
    next(results)
    results.close()
    assert drawn < 10_000


def test_progress_counts_every_image_once(tree, tmp_path) -> None:
    told: list[tuple[str, int, int]] = []
    config = DataConfig(source=str(tree({"a": 75, "b": 75})), cache=tmp_path / "cache")
    load(config, resolution=8, seed=0, progress=lambda *args: told.append(args))
    phases = ("Reading images", "Decoding images")
    assert told == [(phase, done, 150) for phase in phases for done in (100, 150)]


# --------------------------------------------------------------------------- while it changes


def parquet_of(path: Path, png: Any, numbers: range) -> None:
    rows = [{"bytes": png(number), "path": None} for number in numbers]
    pq.write_table(pa.table({"image": rows, "label": [n % 2 for n in numbers]}), path)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (range(40), "60 images became 40"),
        (range(80), "60 images became 80"),
        (range(1, 61), "some have other content"),
    ],
)
def test_images_that_change_before_they_are_decoded_leave_no_cache(
    tmp_path, loaded, png, monkeypatch, later: range, message: str
) -> None:
    source = tmp_path / "set.parquet"
    parquet_of(source, png, range(60))
    write_images = image_cache._write_images

    def changed(*args: Any) -> Any:
        parquet_of(source, png, later)
        return write_images(*args)

    monkeypatch.setattr(image_cache, "_write_images", changed)
    with pytest.raises(InvalidInput, match=f"the images changed while they were read .{message}"):
        loaded(source)
    assert not [path for path in (tmp_path / "cache/images").iterdir() if path.is_dir()]
    monkeypatch.undo()
    assert sum(loaded(source).summary.images.values()) == len(later)


def test_the_same_pixels_in_two_splits_are_pointed_out(tree, loaded) -> None:
    root = tree({"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2})
    shutil.copy(root / "train/a/0.png", root / "test/a/copy.png")
    [warning] = loaded(root).summary.warnings
    assert warning == "1 image is in two splits (same content), so accuracy may be too high."


def test_items_that_hold_many_bytes_do_not_wait_in_memory() -> None:
    held = most = 0

    def items() -> Any:
        nonlocal held, most
        for number in range(40):
            held += 60_000_000
            most = max(most, held)
            yield number

    def done(number: int) -> int:
        nonlocal held
        held -= 60_000_000
        return number

    found = list(parallel.in_order(done, items(), lambda _: 60_000_000))
    assert found == list(range(40))
    assert most <= 600_000_000
