"""A file system that lists folders the other way round, for processes that find this module."""

import os

_listdir, _scandir = os.listdir, os.scandir


class _ReversedScan:
    def __init__(self, path="."):
        with _scandir(path) as entries:
            self._entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self):
        return self._entries

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass


def _list_reversed(path="."):
    return sorted(_listdir(path), reverse=True)


os.listdir, os.scandir = _list_reversed, _ReversedScan
