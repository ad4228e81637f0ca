"""stages.fetch: killed at any moment, the next run gives the same bytes and leaves nothing else."""

import json
import os
import shutil
import signal
import threading
import time

import pytest

from https_server import serving
from imgpipe.files import sha256_of_file
from stages.fetch import read_sums
from tiny import ROOT, Project, encode_image, make_images, write_zip

FETCH = ("python", "-m", "stages.fetch")


def zip_images(path, seed=0):
    images, labels = make_images(20, channels=3, classes=2, seed=seed)
    files = {f"{label}/{n}.png": encode_image(images[n]) for n, label in enumerate(labels)}
    return write_zip(path, files).read_bytes()


@pytest.fixture
def site(monkeypatch, tmp_path):
    with serving(monkeypatch) as site:
        site.files["/a.zip"] = zip_images(tmp_path / "a.zip")
        yield site


@pytest.fixture
def fetching(tmp_path, site, monkeypatch):
    """A folder in which the stage can run; its own source is at an address."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    return use(Project(folder), site)


def use(project, site):
    project.edit_params(dataset="my_images", datasets__my_images__source=site.url + "a.zip")
    return project


def left_behind(project):
    """List all files of a project's data."""
    data = project.folder / "data"
    return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())


FINISHED = ["raw/images.csv", "raw/images.tar", "unfinished/fetch.lock"]


def kill_in_download(project, site, number, begin, arrived):
    """Kill the stage once it has these bytes of the file; return what it said."""
    site.stalled, site.drops = threading.Event(), [arrived - begin]
    process, downloads = project.start(*FETCH), project.folder / "data/unfinished/fetch/downloads"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if [part.stat().st_size for part in downloads.glob("*/*.part")] == [arrived]:
            break
        time.sleep(0.02)
    os.kill(process.pid, number)
    said = process.communicate(timeout=10)[0]
    site.stalled.set()
    site.stalled = None
    return said


def test_a_killed_download_is_continued_and_all_is_as_if_nothing_had_been(fetching, site):
    fetching.run(*FETCH)
    raw = fetching.folder / "data/raw/images.tar"
    expected, size = sha256_of_file(raw), len(site.files["/a.zip"])
    raw.unlink()
    (fetching.folder / "sources.lock").write_text("{}\n")
    site.requests.clear()
    kill_in_download(fetching, site, signal.SIGKILL, 0, 1000)
    said = kill_in_download(fetching, site, signal.SIGINT, 1000, 1500)
    assert said == "interrupted; dvc repro goes on from what is finished\n"
    assert not raw.exists()
    fetching.run(*FETCH)
    assert [request.range for request in site.requests] == [None, "bytes=1000-", "bytes=1500-"]
    assert site.requests[-1].sent == size - 1500
    assert sha256_of_file(raw) == expected
    assert left_behind(fetching) == FINISHED


KILLED = """
import os, signal
import imgpipe.sources, stages.fetch
module, name = {place!r}
before = getattr(eval(module), name)
setattr(eval(module), name, lambda *_: ({call} os.kill(os.getpid(), signal.SIGKILL)))
stages.fetch.main()
"""


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("imgpipe.sources", "store_raw", ""),  # before data/raw is written
        ("imgpipe.sources", "store_raw", "before(*_),"),  # after that, but before its renaming
        ("stages.fetch", "write_json", ""),
        ("stages.fetch", "remove", ""),
    ],
)
def test_a_run_killed_after_the_download_does_no_harm(fetching, site, module, name, call):
    script = KILLED.format(place=(module, name), call=call)
    killed = fetching.run("python", "-c", script, check=False)
    assert killed.returncode == -signal.SIGKILL
    fetching.run(*FETCH)
    assert sum(request.sent for request in site.requests) == len(site.files["/a.zip"])
    assert left_behind(fetching) == FINISHED
    assert list(read_sums(fetching.folder / "sources.lock")) == [site.url + "a.zip"]


def test_other_bytes_at_an_address_are_refused_until_they_are_meant(project, site, tmp_path):
    """The remedy in the message works: without -f, DVC would take the old ones from its cache."""
    use(project, site).repro("fetch")
    sums, raw = project.folder / "sources.lock", project.folder / "data/raw/images.tar"
    before = sums.read_bytes(), raw.read_bytes()
    assert json.loads(before[0]) == {site.url + "a.zip": sha256_of_file(tmp_path / "a.zip")}
    site.files["/a.zip"] = zip_images(tmp_path / "a.zip", seed=1)
    site.headers = {"ETag": '"2"'}
    refused = project.run(*FETCH, check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stdout
    assert (
        "remove this address's line from sources.lock and run dvc repro -f fetch" in refused.stdout
    )
    assert (sums.read_bytes(), raw.read_bytes()) == before
    sums.write_text("{}\n")
    project.repro("-f", "fetch")
    assert json.loads(sums.read_text()) == {site.url + "a.zip": sha256_of_file(tmp_path / "a.zip")}
    assert raw.read_bytes() != before[1]


def test_nothing_but_the_download_stays_of_a_failed_run(fetching, site):
    site.files["/a.zip"] = b"no zip"
    failed = fetching.run(*FETCH, check=False)
    assert f"error: {site.url}a.zip: is not a whole archive" in failed.stdout
    kept = [name for name in left_behind(fetching) if name != "unfinished/fetch.lock"]
    assert all(name.startswith("unfinished/fetch/downloads/") for name in kept)
    assert not (fetching.folder / "sources.lock").exists()


def test_recorded_sums(tmp_path):
    path = tmp_path / "sources.lock"
    assert read_sums(path) == {}
    path.write_text(json.dumps({"https://host/x": "0" * 64}))
    assert read_sums(path) == {"https://host/x": "0" * 64}


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"https://host/x": 3}', '{"https://host/x": "0"}', "<<<<<<< HEAD\n{}", '"x"'],
)
def test_damaged_recorded_sums_are_told(tmp_path, content):
    path = tmp_path / "sources.lock"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"sources\.lock: is no JSON mapping .*; mend it, or"):
        read_sums(path)
