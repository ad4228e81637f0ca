"""Tiny data, and whole projects in temporary folders to run pipelines in."""

import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from imgpipe import direct_convolution, winograd
from imgpipe.dropout import drop_out
from imgpipe.files import holding
from imgpipe.idx import write_idx
from imgpipe.images import to_picture
from imgpipe.schema import Backbone

ROOT = Path(__file__).parents[2]
COPIED = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
    "params.yaml",
    "sources.lock",
)
COMPILED = "imgpipe/__pycache__"  # by numba
DELETED = object()  # as a value in edit_params: remove the key
CHECKS = ["check_names", "check_values"]
AUGMENTATION = {
    "rotation": 8.0,
    "width_shift": 0.1,
    "height_shift": 0.1,
    "shear": 0.3,
    "zoom": 0.1,
    "horizontal_flip": False,
    "vertical_flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
}
STAGES = [
    *CHECKS,
    "source",
    "fetch",
    "split",
    "preprocess",
    "features",
    "train",
    "evaluate",
]
FIGURES = ["plot", "embed@pixels", "embed@model"]  # of which no other stage makes use


def make_images(count: int, *, size: int = 28, channels: int = 1, classes: int = 10, seed: int = 0):
    """Make images whose class can be learnt: a bright bar whose height tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 60, (count, size, size, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = label * size // classes
        image[top : top + max(1, size // classes)] += 180
    return images, labels


def write_idx_dataset(folder: Path, train: int = 240, test: int = 60, seed: int = 0) -> dict:
    """Write a dataset of Fashion-MNIST's shape; return file names and SHA-256 sums."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, count in (("train", train), ("t10k", test)):
        images, labels = make_images(count, seed=seed + count)
        write_idx(folder / f"{stem}-images-idx3-ubyte", images[..., 0])
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels)
    files = sorted(folder.iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip archive of these names and contents, in their order."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], compression: str = "") -> Path:
    """Write a tar archive of these names and contents, in their order."""
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def encode_image(array: np.ndarray, format: str = "PNG", **options) -> bytes:
    """Encode a uint8 array (height, width, 1 or 3) as an image file."""
    file = io.BytesIO()
    to_picture(array).save(file, format, **options)
    return file.getvalue()


def write_image_tree(folder: Path, counts: dict[str, int], size: int = 32, seed: int = 0) -> Path:
    """Write PNG files that can be learnt: `counts` of them in each of its folders.

    The last step of a folder's path is the class. Files are named <number of four>-<number>.png.
    """
    class_names = sorted({name.rpartition("/")[2] for name in counts})
    for number, (name, count) in enumerate(counts.items()):
        label = class_names.index(name.rpartition("/")[2])
        images, labels = make_images(
            count * len(class_names),
            size=size,
            channels=3,
            classes=len(class_names),
            seed=seed * 1000 + number,
        )
        (folder / name).mkdir(parents=True)
        for index, image in enumerate(images[labels == label]):
            path = folder / name / f"{number}{index // 4:02d}-{index:03d}.png"
            path.write_bytes(encode_image(image))
    return folder


def set_value(content: dict, keys: list[str], value) -> None:
    """Set a value deep in nested mappings, or remove its key if the value is DELETED."""
    *parents, last = keys
    for parent in parents:
        content = content[parent]
    if value is DELETED:
        del content[last]
    else:
        content[last] = value


def make_settings(**changes) -> Backbone:
    """Make the settings of a small VGG16 with random weights."""
    values = {
        "network": "vgg16",
        "weights": None,
        "weights_sha256": None,
        "layer": "block2_pool",
        "pooling": "avg",
        "image_size": [32, 32],
        "scaling": "imagenet",
        "precision": "float32",
    }
    return Backbone(**(values | changes))


class Project:
    """A copy of this project with tiny data, in which commands run as a user would run them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *command: str, check: bool = True, **environment: str):
        """Run a command in the project; return its exit status and all that it printed."""
        result = subprocess.run(command, **self._settings(environment))
        if check and result.returncode:
            raise AssertionError(f"{command} exited with {result.returncode}:\n{result.stdout}")
        return result

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """Start a command in a session of its own, to be killed with all that it starts."""
        return subprocess.Popen(command, start_new_session=True, **self._settings(environment))

    def _settings(self, environment: dict[str, str]) -> dict:
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        env |= {"GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1", **environment}
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_NAME": "Test", f"GIT_{role}_EMAIL": "test@example.org"}
        return {
            "cwd": self.folder,
            "env": env,
            "text": True,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }

    def repro(self, *arguments: str, **environment: str) -> list[str]:
        """Run `dvc repro` (as far as the scores, if nothing is named); return the stages that ran."""
        arguments = arguments or ("evaluate",)
        return stages_run(self.run("dvc", "repro", *arguments, **environment).stdout)

    def experiment(self, *settings: str) -> list[str]:
        """Run `dvc exp run -S …` as far as the scores; return the stages that ran."""
        changes = [word for setting in settings for word in ("-S", setting)]
        return stages_run(self.run("dvc", "exp", "run", *changes, "evaluate").stdout)

    def edit_params(self, **changes) -> None:
        """Set values in params.yaml by dotted path (`__` for a dot)."""
        path, yaml = self.folder / "params.yaml", YAML()
        content = yaml.load(path)
        for key, value in changes.items():
            set_value(content, key.split("__"), value)
        yaml.dump(content, path)

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "state")

    def copy(self, folder: Path) -> "Project":
        """Copy the project with its data, cache and history."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def clone(self, folder: Path) -> "Project":
        """Clone the project by git; from its folder comes only what numba has compiled."""
        self.run("git", "clone", "-q", str(self.folder), str(folder))
        shutil.copytree(self.folder / COMPILED, folder / COMPILED)
        return Project(folder)


def stages_run(output: str) -> list[str]:
    """List the stages that DVC's output says it ran, restored ones not counted."""
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]
    return [stage for stage in (*STAGES, *FIGURES) if stage in ran]


@functools.cache
def compile_once() -> None:
    """Have numba compile here what stages call, which takes half a minute: projects copy it.

    In a project that has to compile it, a test passes all the same.
    """
    with holding(ROOT / COMPILED / "compiling.lock"):  # by one of the workers
        for channels in (1, 16):  # few and many, which are convolved in different ways
            images, kernel, bias = (
                np.zeros(shape, np.float32)
                for shape in ((1, 6, 6, channels), (3, 3, channels, 16), 16)
            )
            maps, winners = winograd.convolve_and_pool(images, kernel, bias, padding=1)
            arrays = images, maps, maps, kernel, winners
            direct_convolution.differentiate_kernel(*arrays, padding=1)
            winograd.differentiate_convolution(*arrays, padding=1)
        drop_out(bias, np.zeros(2, np.uint32), 0.5)


def make_project(folder: Path) -> Project:
    """Copy the project's own files and give it tiny data and short trainings."""
    compile_once()
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("stages", "imgpipe"):  # with what numba has compiled
        ignored = shutil.ignore_patterns("*.pyc", "*.tmp.*", "*.lock")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    project = Project(folder)
    source = folder.parent / f"{folder.name}-source"
    project.edit_params(
        dataset="fashion_mnist",
        model="cnn1",
        seed=13,
        datasets__fashion_mnist__files=write_idx_dataset(source),
        datasets__fashion_mnist__source=str(source),
        datasets__fashion_mnist__public_sources=[],
    )
    for model, block in YAML(typ="safe").load(ROOT / "params.yaml")["models"].items():
        changes = {"epochs": 2, "augmented_epochs": 0, "batch_size": 32}
        if block["backbone"]:
            changes |= {"backbone__weights": None, "backbone__image_size": [32, 32]}
            changes |= {"features__augmented_copies": 0}
        project.edit_params(**{f"models__{model}__{key}": v for key, v in changes.items()})
    project.run("git", "init", "-q", "-b", "main")
    project.commit()
    return project
