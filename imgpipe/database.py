"""Databases for what is needed once, in order, and would take too much memory."""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


@contextlib.contextmanager
def temporary_database() -> Iterator[sqlite3.Connection]:
    """Open an empty database on the disk. Its file has no name and is gone with the process.

    SQLite keeps 2 MB of it in memory, sorts on the disk too, and writes nothing while there is
    less than that.

    Raises:
        OSError: the disk of the system's temporary files is full.
    """
    with contextlib.closing(sqlite3.connect("")) as database:
        try:
            yield database
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_ROOM:
                raise
            where = "the system's folder for temporary files"
            raise OSError(errno.ENOSPC, str(error), where) from None
