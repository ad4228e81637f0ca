"""stages.source: a link for DVC to watch, and nothing of the user's ever touched."""

import os
import socket

import pytest

from imgpipe.schema import Dataset, PublicSource
from stages.source import link_source
from tiny import ROOT, YAML

BLOCK = YAML(typ="safe").load(ROOT / "params.yaml")["datasets"]["my_images"]


@pytest.fixture
def link(tmp_path):
    """Link to a source; return the path."""

    def make(source, **changes):
        path = tmp_path / "source"
        link_source(Dataset.model_validate(BLOCK | {"source": source} | changes), "mine", path)
        return path

    return make


def test_a_folder_or_file_is_linked(link, tmp_path):
    (tmp_path / "photos").mkdir()
    path = link(str(tmp_path / "photos"))
    assert path.is_symlink() and path.resolve() == tmp_path / "photos"


def test_a_list_of_files_is_a_folder_of_links(link, tmp_path):
    files = [tmp_path / "b.zip", tmp_path / "a.zip"]
    for file in files:
        file.write_text(file.name)
    path = link([str(file) for file in files])
    assert [inner.read_text() for inner in sorted(path.iterdir())] == ["b.zip", "a.zip"]
    assert all(inner.is_symlink() for inner in path.iterdir())


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


ODD = {
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: path.symlink_to("nowhere"),
    "itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("hidden", ["", "."])
@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_dvc_would_wait_for_or_fail_on_is_refused(link, tmp_path, make, hidden):
    (tmp_path / "photos/a").mkdir(parents=True)
    make(tmp_path / f"photos/a/{hidden}odd")
    with pytest.raises(ValueError, match=rf"mine\.source: .*a/{hidden}odd: .*; mend or remove it"):
        link(str(tmp_path / "photos"))


@pytest.mark.parametrize("source", ["/dev/zero", "pipe"])
def test_a_pipe_or_device_is_no_source(link, tmp_path, source):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"mine\.source: .*: is no regular file; mend or remove"):
        link(str(tmp_path / source))


def test_a_name_that_is_not_utf8_is_refused(link, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / os.fsdecode(b"caf\xe9.jpg")).touch()
    with pytest.raises(ValueError, match="is no name in UTF-8; mend or remove it") as caught:
        link(str(tmp_path / "photos"))
    assert str(caught.value).isprintable()


def test_nothing_on_this_machine_is_a_line(link):
    assert link(None).read_text() == "the published files\n"


def test_an_address_is_a_line(link):
    address = "https://example.org/photos.zip"
    assert link(address).read_text() == f"{address}\n"


def test_what_is_missing_is_told_unless_there_is_another_source(link):
    with pytest.raises(FileNotFoundError, match=r"datasets\.mine\.source: /nowhere: no such file"):
        link("/nowhere")
    public = {"public_sources": [PublicSource(folder="/x")], "files": {"a.zip": "0" * 64}}
    assert link("/nowhere", **public).read_text() == "/nowhere\n"


def test_a_folder_in_a_list_is_refused(link, tmp_path):
    with pytest.raises(ValueError, match="is a folder, and a list may hold files only"):
        link([str(tmp_path)])
