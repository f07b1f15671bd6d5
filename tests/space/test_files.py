import errno
import os

import pytest

from space import choices
from space.files import read_text, write_file
from space.validation import InvalidInput


def test_a_text_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "file"
    path.write_text("α", "utf-8-sig")
    assert read_text(path) == "α"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_text_in_utf_16_is_named_as_such(tmp_path, encoding):
    path = tmp_path / "file"
    path.write_bytes("\ufeffα".encode(encoding))
    with pytest.raises(InvalidInput, match="file: is encoded in UTF-16; save it as UTF-8"):
        read_text(path)


def test_a_text_in_another_encoding_names_the_line(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"name: mine\ndescription: caf\xe9\n")
    with pytest.raises(InvalidInput, match="file: line 2 is not UTF-8; save the file as UTF-8"):
        read_text(path)


def test_a_text_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InvalidInput, match="file: not found"):
        read_text(tmp_path / "file")
    with pytest.raises(InvalidInput, match=r"cannot be read \(Is a directory\)"):
        read_text(tmp_path)


def test_a_space_is_read_in_the_same_way(tmp_path):
    path = tmp_path / "mine.YAML"
    path.write_text("base: mobilenet_v2\nchoices: {kernel: [3, 5]}\n", "utf-16")
    with pytest.raises(InvalidInput, match=r"mine\.YAML: is encoded in UTF-16"):
        choices.load(str(path))
    path.write_text("base: mobilenet_v2\nchoices: {kernel: [3, 5]}\n", "utf-8")
    assert choices.load(str(path)).name == "mine"


def test_a_file_that_cannot_be_written_is_the_one_that_is_named(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*result\.json'$"):
        write_file(tmp_path / "result.json", "{}")
    assert list(tmp_path.iterdir()) == []
