"""Files on disk: written whole or not at all, and known by their sums."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write a file or folder at; rename it to `path` on success.

    The temporary name lies beside `path`, so nothing is copied and no reader ever sees a part. On
    any error it is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if path.is_dir() or path.is_symlink():
            path.rename(Path(folder) / f"{path.name}.old")
        temporary.replace(path)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 sum of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(table, path: Path) -> None:
    """Write a pandas table without its index as CSV."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def write_json(content, path: Path) -> None:
    """Write JSON, names in any script as they are."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
