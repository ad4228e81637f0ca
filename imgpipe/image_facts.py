"""What is known of a dataset's images: kept on the disk, as there may be a million."""

import sqlite3
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd


class ImageFacts:
    """Ids, SHA-256 sums, perceptual hashes and errors of images, by row number."""

    def __init__(self, database: sqlite3.Connection):
        self._database = database
        # SQLite numbers rows from 1 by itself.
        database.execute(
            "CREATE TABLE images (number INTEGER PRIMARY KEY, id, sha256, error, hash INTEGER)"
        )

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM images").fetchone()[0]

    def add(
        self,
        ids: Iterable[str],
        sums: Iterable[str],
        errors: Iterable[str],
        hashes: np.ndarray,
    ) -> None:
        """Take in what is known of the images of the next rows, as many as there are `hashes`."""
        rows = zip(hashes.view(np.int64).tolist(), sums, errors, ids, strict=False)
        self._database.executemany(
            "INSERT INTO images (hash, sha256, error, id) VALUES (?, ?, ?, ?)", rows
        )

    def read_hashes(self) -> np.ndarray:
        """Read the perceptual hashes of all rows: uint64 (n,)."""
        hashes = self._database.execute("SELECT hash FROM images ORDER BY number")
        return np.fromiter((one for (one,) in hashes), np.int64, len(self)).view(np.uint64)

    def number(self, column: str) -> np.ndarray:
        """Number the texts of a column in their order; equal ones have one number.

        Returns:
            int32 (n,).
        """
        numbers = self._database.execute(
            f"SELECT dense_rank() OVER (ORDER BY {column}) FROM images ORDER BY number"
        )
        return np.fromiter((number for (number,) in numbers), np.int32, len(self))

    def read(self, rows: Iterable[int]) -> pd.DataFrame:
        """Read id, sha256 and error of some rows, on an index of their numbers."""
        query = "SELECT id, sha256, error FROM images WHERE number = ?"
        numbers = [int(row) for row in rows]
        found = [self._database.execute(query, (row + 1,)).fetchone() for row in numbers]
        return pd.DataFrame(found, numbers, ["id", "sha256", "error"], dtype=object)

    def stream(self, *columns: str) -> Iterator[tuple[str, ...]]:
        """Give some columns of all rows, one row after the other."""
        return self._database.execute(f"SELECT {', '.join(columns)} FROM images ORDER BY number")
