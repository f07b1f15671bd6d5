"""CSV files that list images are read, and tell what they miss."""

from pathlib import Path

import pytest

from space.validation import InvalidInput


@pytest.fixture
def photos(tree) -> Path:
    """Twelve images in one folder, listed nowhere."""
    return tree({"images": 12})


def write(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_text(text, "utf-8")
    return root


def rows(pattern: str, count: int = 12) -> str:
    return "\n".join(pattern.format(n=n, label="ab"[n % 2]) for n in range(count))


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\n" + rows("images/{n}.png,{label}"),
        "file,label\n" + rows("{n}.png,{label}"),
        "image_id;class\n" + rows("{n};{label}"),
        "\ufeffFile Name\tTarget\n" + rows(".\\images\\{n}.png\t{label}"),
        rows("images/{n}.png,{label}"),
    ],
)
def test_file_and_label_are_read_by_any_usual_name(photos, loaded, text: str) -> None:
    data = loaded(write(photos, text))
    assert data.summary.format == "csv"
    assert data.classes == ("a", "b")
    assert sum(data.summary.images.values()) == 12


def test_the_file_itself_may_be_named(photos, loaded) -> None:
    write(photos, "file,label\n" + rows("{n}.png,{label}"), "mine.csv")
    assert loaded(photos / "mine.csv").classes == ("a", "b")


def test_a_column_says_the_split(photos, loaded) -> None:
    lines = [f"{n}.png,{'ab'[n % 2]},{'test' if n > 7 else 'train'}" for n in range(12)]
    data = loaded(write(photos, "\n".join(["file,label,split", *lines])))
    assert (len(data.full_train), len(data.test)) == (8, 4)


def test_the_names_of_several_files_say_the_split(photos, loaded) -> None:
    text = rows("{n}.png,{label}").splitlines()
    write(photos, "\n".join(["file,label", *text[:8]]), "train.csv")
    write(photos, "\n".join(["file,label", *text[8:]]), "test.csv")
    data = loaded(photos)
    assert (len(data.full_train), len(data.test)) == (8, 4)


def test_numbers_are_sorted_as_numbers(photos, loaded) -> None:
    text = "\n".join(f"{n}.png,{[9, 10][n % 2]}" for n in range(12))
    assert loaded(write(photos, "file,label\n" + text)).classes == ("9", "10")


def test_folders_that_are_classes_count_before_a_list(tree, loaded) -> None:
    root = write(tree({"a": 6, "b": 6}), "file,label\n0.png,x\n1.png,y")
    assert loaded(root).classes == ("a", "b")


def test_missing_and_unlisted_images_are_named(photos, loaded) -> None:
    root = write(photos, "file,label\n" + rows("{n}.png,{label}", 11) + "\ngone.png,a")
    summary = loaded(root, max_bad=0.2).summary
    assert [each.name for each in summary.skipped] == ["gone.png"]
    assert "1 image left out (not listed): 'images/11.png'." in summary.warnings


def test_a_list_never_leads_out_of_its_folder(photos, loaded, tmp_path, png) -> None:
    (tmp_path / "secret.png").write_bytes(png(99))
    text = rows("{n}.png,{label}", 11) + f"\n../secret.png,a\n{tmp_path}/secret.png,a"
    summary = loaded(write(photos, "file,label\n" + text), max_bad=0.5).summary
    assert len(summary.skipped) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"photo,kind\n0.png,a", r"a CSV file must have columns `file` and `label`"),
        (b"file,label\n0.png,\n1.png,a", r"1 row without a label"),
        (b"file,label\n0.png,a\n1.png", r"1 row without a label"),
        ("file,label\n0.png,é".encode("latin-1"), r"cannot be read .* save it again as UTF-8"),
        (b"file,label\n0.png,a\n1.png," + b"b" * 256, r"at most 255 characters, .* one of 256"),
        (b"", r"this CSV file cannot be read"),
        (b"file,label\n0.png,a\n\x00\x001.png,b,c", r"this CSV file cannot be read"),
        (b'file,label\n"0.png,a\n1.png,b', r"this CSV file cannot be read"),
    ],
)
def test_a_list_that_is_damaged_is_told_why(photos, loaded, content: bytes, message: str) -> None:
    (photos / "labels.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as error:
        loaded(photos / "labels.csv")
    assert "\n" not in str(error.value)
