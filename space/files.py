"""Files read as UTF-8, and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from space.validation import InvalidInput

if TYPE_CHECKING:
    from upath import UPath


#: First bytes of a text in UTF-16, in which some editors and shells on Windows save files.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises `InvalidInput` if the file cannot be read or has another encoding.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(f"{path}: not found") from None
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith(_UTF_16):
        raise InvalidInput(f"{path}: is encoded in UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def write_file(path: Path | UPath, content: str | bytes) -> None:
    """Writes `content` to a temporary file beside `path`, then renames it (text as UTF-8).

    A file in a store elsewhere (a `UPath` of a URL) is replaced by what is uploaded, as a whole.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(path, Path):
        path.write_bytes(data)
        return
    try:
        _replace(path, data)
    except OSError as error:  # it names the temporary file, or none
        raise OSError(error.errno, error.strerror, str(path)) from None


def _replace(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            temporary.unlink()
            raise
    # mkstemp makes private files; a result is as readable as any other file.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    temporary.replace(path)
