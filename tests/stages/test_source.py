"""stages.source: a link for DVC to watch, and nothing of the user's ever touched."""

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
