"""Fixtures: projects to run pipelines in."""

import os
import signal

import pytest

from imgpipe.files import holding
from tiny import AUGMENTATION, FIGURES, STAGES, Project, make_project

BACKBONE = {
    "model": "vgg16_block4",
    "models__vgg16_block4__augmented_epochs": 2,
    "models__vgg16_block4__augmentation": AUGMENTATION,
    "models__vgg16_block4__features__augmented_copies": 2,
}


# Ctrl-C in a terminal reaches the scripts that tests start. What shells start in the background
# ignores it, and so would they.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def project(tmp_path) -> Project:
    """A project in which nothing has run yet."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory) -> Project:
    """A project whose default pipeline has run and is committed; copy it before changing it."""
    return make_once(tmp_path_factory, "finished")


@pytest.fixture(scope="session")
def finished_backbone_project(tmp_path_factory) -> Project:
    """The same with features from a backbone, augmented copies among them."""
    return make_once(tmp_path_factory, "backbone", **BACKBONE)


def make_once(tmp_path_factory, name: str, **changes) -> Project:
    """Run a pipeline once for all workers of this test run, of which one does it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    project, done = Project(shared / name / "project"), shared / name / "done"
    with holding(shared / f"{name}.lock"):
        if not done.exists():
            make_project(project.folder)
            project.edit_params(**changes)
            assert project.repro(*STAGES, *FIGURES) == [*STAGES, *FIGURES]
            project.commit()
            done.touch()
    return project


@pytest.fixture
def trained(finished_project, tmp_path) -> Project:
    """A copy of the finished project, to change at will."""
    return finished_project.copy(tmp_path / "project")
