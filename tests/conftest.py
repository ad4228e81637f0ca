"""Fixtures: projects to run pipelines in."""

import pytest

from tiny import Project, make_project


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
