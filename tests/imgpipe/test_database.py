"""imgpipe.database: little memory, and a full disk told as one."""

import resource
import sqlite3
import subprocess
import sys

import pytest

from imgpipe.database import temporary_database
from imgpipe.files import is_disk_full
from tiny import ROOT

FILL = """
import resource, sys
from imgpipe.database import temporary_database

def read_peak_memory():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with temporary_database() as database:
    before = read_peak_memory()
    database.execute("CREATE TABLE texts (text)")
    texts = ((f"{number * 7919 % 300_007:0100d}",) for number in range(300_000))
    database.executemany("INSERT INTO texts VALUES (?)", texts)
    for _ in database.execute("SELECT text FROM texts ORDER BY text"):
        pass
    print(read_peak_memory() - before)
"""


def fill(**options):
    return subprocess.run(
        [sys.executable, "-c", FILL], cwd=ROOT, capture_output=True, text=True, **options
    )


def test_thirty_megabytes_take_a_few_of_memory():
    assert int(fill(check=True).stdout) < 15e6


def test_a_full_disk_is_told_as_one():
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, limit[1]))
    try:
        with (
            pytest.raises(OSError, match="folder for temporary files") as caught,
            temporary_database() as database,
        ):
            database.execute("CREATE TABLE blocks (content)")
            rows = ((bytes(1 << 20),) for _ in range(20))
            database.executemany("INSERT INTO blocks VALUES (?)", rows)
        assert is_disk_full(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_other_errors_stay_what_they_are():
    with pytest.raises(sqlite3.OperationalError, match="no such table"), temporary_database() as db:
        db.execute("SELECT * FROM missing")
