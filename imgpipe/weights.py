"""Finding the weights file that a backbone block means."""

import hashlib
import os
from pathlib import Path

from imgpipe.downloads import download, one_line
from imgpipe.files import holding, is_disk_full, sha256_of_file
from imgpipe.schema import Backbone

# The addresses of keras.applications, and the MD5 sums pinned there.
IMAGENET_FILES = {
    "vgg16": (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
    "vgg19": (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "253f8cb515780f3b799900260a226db6",
    ),
}


def find_weights(settings: Backbone) -> Path | None:
    """Return the weights file that a backbone block means, downloaded if need be, and checked.

    Returns:
        A path; None for `weights: null`.

    Raises:
        FileNotFoundError: the named file does not exist.
        ValueError: its SHA-256 sum is not weights_sha256.
        OSError: the ImageNet weights cannot be downloaded.
    """
    if settings.weights is None:
        return None
    if settings.weights == "imagenet":
        return _download_imagenet(settings.network)
    path = Path(settings.weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; backbone.weights in params.yaml names it (imagenet downloads "
            "the published weights)"
        )
    found = sha256_of_file(path)
    if found != settings.weights_sha256:
        raise ValueError(
            f"{path}: has the SHA-256 sum {found}, but backbone.weights_sha256 in params.yaml is "
            f"{settings.weights_sha256}; put the meant file back, or set the new sum to compute "
            "features anew"
        )
    return path


def _download_imagenet(network: str) -> Path:
    url, md5 = IMAGENET_FILES[network]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imgpipe"
    path = cache / url.rpartition("/")[2]

    if path.is_file() and _md5_of_file(path) == md5:
        return path  # though the cache may be one that cannot be written to

    def check(path: Path) -> None:
        if (found := _md5_of_file(path)) != md5:
            raise ValueError(f"it has the MD5 sum {found} where {md5} is pinned")

    try:
        # All projects of a user share the cache; of two that want a file, one waits.
        with holding(path.with_name(f"{path.name}.lock")):
            return download(url, path, check)
    except (OSError, ValueError) as error:
        if is_disk_full(error):
            raise
        raise OSError(
            f"the ImageNet weights of {network} cannot be downloaded from {url} "
            f"({one_line(error)}); give a copy of your own: set backbone.weights to its path in "
            "params.yaml and backbone.weights_sha256 to its SHA-256 sum"
        ) from None


def _md5_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
