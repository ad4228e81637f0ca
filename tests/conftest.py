"""Fixtures: projects to run pipelines in."""

import pytest

from tiny import AUGMENTATION, Project, make_project

BACKBONE = {
    "model": "vgg16_block4",
    "models__vgg16_block4__augmented_epochs": 2,
    "models__vgg16_block4__augmentation": AUGMENTATION,
    "models__vgg16_block4__features__augmented_copies": 2,
}


@pytest.fixture
def project(tmp_path) -> Project:
    """A project in which nothing has run yet."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory) -> Project:
    """A project whose default pipeline has run and is committed; copy it before changing it."""
    project = make_project(tmp_path_factory.mktemp("finished") / "project")
    project.repro()
    project.commit()
    return project


@pytest.fixture
def trained(finished_project, tmp_path) -> Project:
    """A copy of the finished project, to change at will."""
    return finished_project.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_backbone_project(tmp_path_factory):
    """A project whose features come from a backbone, with augmented copies, and that has run."""
    project = make_project(tmp_path_factory.mktemp("backbone") / "project")
    project.edit_params(**BACKBONE)
    project.repro()
    project.commit()
    return project
