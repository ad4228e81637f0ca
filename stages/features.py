"""features: run images through a frozen backbone, once. Reads data/arrays; writes data/features/.

For a model with a backbone, {train,val,test}.npy are float16 (n, feature_dim), and backbone/ holds
its settings (precision resolved) and the weights that made the features. In train.npy the n rows of
the plain images are followed by n rows for each augmented copy of them. For a model without a
backbone the arrays are empty, the settings null, and TensorFlow is not imported. A killed run goes
on after its last part, which data/unfinished/features holds.
"""

import shutil
import time
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imgpipe.arrays import SUBSETS, blocks, continue_array, open_array, write_array
from imgpipe.environment import record_environment
from imgpipe.files import remove, replacing, write_json
from imgpipe.params import Params, load_params
from imgpipe.schema import Augmentation, Backbone
from imgpipe.stage import WORK, importing_keras, progress_bar, run_stage
from imgpipe.unfinished import open_work

ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")
ENVIRONMENT = Path("metrics/environment.json")
AUGMENTED_IMAGES = 64  # augmented at once, in float32


def main():
    """Write the features of each subset, or empty arrays."""
    params = load_params()
    if params.recipe.backbone:
        summary = write_features(params)
    else:
        write_empty()
        summary = f"{params.model_name} has no backbone"
    remove(WORK / "features")
    print(f"features: {summary}")


def write_empty() -> None:
    """Write arrays that hold no features, and settings that say so."""
    for subset in SUBSETS:
        write_array(FEATURES / f"{subset}.npy", (0, 0), np.float16, [])
    with replacing(FEATURES / "backbone") as folder:
        folder.mkdir()
        write_json(None, folder / "settings.json")
    record_environment(ENVIRONMENT, "features", None)


def write_features(params: Params) -> str:
    """Extract and write the features of each subset, and the backbone; return a summary."""
    with importing_keras():
        from imgpipe import backbones
        from imgpipe.determinism import make_deterministic
        from imgpipe.weights import find_weights

    make_deterministic(backbones.RANDOM_WEIGHTS_SEED)
    precision = backbones.resolve_precision(params.recipe.backbone.precision)
    settings = params.recipe.backbone.model_copy(update={"precision": precision})
    weights = find_weights(settings)
    backbone = backbones.build_backbone(settings, params.dataset.channels, weights)
    batch_size = backbones.choose_batch_size(settings.image_size)
    files = {subset: ARRAYS / f"{subset}_images.npy" for subset in SUBSETS}
    recipe = params.recipe.model_copy(update={"backbone": settings})  # with the precision resolved
    recipe = recipe.model_dump(include={"backbone", "features", "augmentation"})
    work = open_work(WORK / "features", recipe, [*files.values(), *([weights] if weights else [])])
    copies = {"train": params.recipe.features.augmented_copies}
    parts = {
        subset: list_parts(len(open_array(file)), 8 * batch_size, copies.get(subset, 0))
        for subset, file in files.items()
    }
    rows = {subset: sum(map(count_images, parts[subset])) for subset in SUBSETS}
    computed, started = 0, time.perf_counter()
    with progress_bar(total=sum(rows.values()), unit=" images", desc=settings.network) as bar:
        for subset in SUBSETS:

            def compute(done: int, subset=subset):
                bar.update(done)
                left = skip_images(parts[subset], done)
                images = load_parts(files[subset], left, params.recipe.augmentation, bar)
                return backbones.extract_features(backbone, images, batch_size)

            shape = (rows[subset], backbone.output_shape[1])
            computed += continue_array(work / f"{subset}.npy", shape, np.float16, compute)
    rate = computed / (time.perf_counter() - started)
    write_backbone(backbone, settings)
    for subset in SUBSETS:
        with replacing(FEATURES / f"{subset}.npy") as path:
            shutil.move(work / f"{subset}.npy", path)
    record_environment(ENVIRONMENT, "features", precision)
    return (
        f"{sum(rows.values()):,} × {backbone.output_shape[1]:,} from {settings.network} up to "
        f"{settings.layer} at {settings.image_size[0]}×{settings.image_size[1]} in {precision}, "
        f"{rate:.0f} images/s"
    )


class Part(NamedTuple):
    """Some images of a subset that pass through the backbone together.

    Attributes:
        block: which images.
        copy: number of the augmented copy, from 0; None for the plain images.
        number: of the part within the copy.
    """

    block: slice
    copy: int | None
    number: int


def list_parts(count: int, size: int, copies: int) -> list[Part]:
    """List the parts of a subset in the order of its features: the plain images, then copies."""
    parts = [Part(block, None, number) for number, block in enumerate(blocks(count, size))]
    for copy in range(copies):
        cut = enumerate(blocks(count, AUGMENTED_IMAGES))
        parts += [Part(block, copy, number) for number, block in cut]
    return parts


def count_images(part: Part) -> int:
    """Count the images of a part."""
    return part.block.stop - part.block.start


def skip_images(parts: list[Part], count: int) -> list[Part]:
    """Leave out the first parts, which hold `count` images."""
    ends = list(accumulate(map(count_images, parts)))
    return [part for part, end in zip(parts, ends, strict=True) if end > count]


def load_parts(path: Path, parts: list[Part], augmentation: Augmentation, bar):
    """Yield the images of each part, and move the bar on once a part was worked off."""
    from imgpipe.augmentation import augment_part

    for part in parts:
        images = np.array(open_array(path)[part.block])
        if part.copy is not None:
            images = augment_part(images, augmentation, part.copy, part.number)
        yield images
        bar.update(len(images))


def write_backbone(backbone, settings: Backbone) -> None:
    """Write the weights that made the features, and the settings of their network."""
    # Where the file lay is nobody's business later: its sum says what it was.
    named = settings.weights if settings.weights in (None, "imagenet") else "file"
    with replacing(FEATURES / "backbone") as folder:
        folder.mkdir()
        backbone.save_weights(folder / "backbone.weights.h5")
        write_json(settings.model_dump() | {"weights": named}, folder / "settings.json")


if __name__ == "__main__":
    run_stage(main)
