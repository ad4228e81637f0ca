"""features: run images through a frozen backbone, once. Reads data/arrays; writes data/features/.

For a model with a backbone, {train,val,test}.npy are float16 (n, feature_dim), and backbone/ holds
its settings (precision resolved) and the weights that made the features. In train.npy the n rows of
the plain images are followed by n rows for each augmented copy of them. For a model without a
backbone the arrays are empty, the settings null, and TensorFlow is not imported.
"""

import time
from itertools import chain
from pathlib import Path

import numpy as np

from imgpipe.arrays import SUBSETS, blocks, open_array, write_array
from imgpipe.files import replacing, write_json
from imgpipe.params import Params, load_params
from imgpipe.stage import progress_bar, quiet_import, run_main

ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")
AUGMENTED_IMAGES = 64  # augmented at once, in float32


def main():
    """Write the features of each subset, or empty arrays."""
    params = load_params()
    with replacing(FEATURES / "backbone") as folder:
        folder.mkdir()
        if params.recipe.backbone:
            settings, summary = write_features(params, folder / "backbone.weights.h5")
        else:
            settings, summary = write_empty(), f"{params.model_name} has no backbone"
        write_json(settings, folder / "settings.json")
    print(f"features: {summary}")


def write_empty() -> None:
    """Write arrays that hold no features; there are no settings to return."""
    for subset in SUBSETS:
        write_array(FEATURES / f"{subset}.npy", (0, 0), np.float16, [])


def write_features(params: Params, weights_file: Path) -> tuple[dict, str]:
    """Extract and write the features of each subset, and the backbone's weights.

    Returns:
        The backbone's settings with the precision resolved, and a summary in words.
    """
    with quiet_import():
        from imgpipe import backbones
        from imgpipe.augmentation import augment_copy
        from imgpipe.determinism import make_deterministic
        from imgpipe.weights import find_weights

    make_deterministic(backbones.RANDOM_WEIGHTS_SEED)
    precision = backbones.resolve_precision(params.recipe.backbone.precision)
    settings = params.recipe.backbone.model_copy(update={"precision": precision})
    weights = find_weights(settings)
    backbone = backbones.build_backbone(settings, params.dataset.channels, weights)
    batch_size = backbones.choose_batch_size(settings.image_size)
    feature_dim = backbone.output_shape[1]
    counts = {s: len(open_array(ARRAYS / f"{s}_images.npy")) for s in SUBSETS}
    copies = {"train": params.recipe.features.augmented_copies}
    rows = {s: count * (1 + copies.get(s, 0)) for s, count in counts.items()}
    total, started = sum(rows.values()), time.perf_counter()
    with progress_bar(total=total, unit=" images", desc=settings.network) as bar:
        for subset, count in counts.items():
            path = ARRAYS / f"{subset}_images.npy"
            images = [read_blocks(path, count, 8 * batch_size, bar)]
            for copy in range(copies.get(subset, 0)):
                plain = read_blocks(path, count, AUGMENTED_IMAGES, bar)
                images.append(augment_copy(plain, params.recipe.augmentation, copy))
            features = backbones.extract_features(backbone, chain(*images), batch_size)
            shape = (rows[subset], feature_dim)
            write_array(FEATURES / f"{subset}.npy", shape, np.float16, features)
    rate = total / (time.perf_counter() - started)
    backbone.save_weights(weights_file)
    summary = (
        f"{total:,} × {feature_dim:,} from {settings.network} up to {settings.layer} at "
        f"{settings.image_size[0]}×{settings.image_size[1]} in {precision}, {rate:.0f} images/s"
    )
    # Where the file lay is nobody's business later: its sum says what it was.
    named = settings.weights if settings.weights in (None, "imagenet") else "file"
    return settings.model_dump() | {"weights": named}, summary


def read_blocks(path: Path, count: int, size: int, bar):
    """Yield an array's rows in blocks, and move the bar on once a block was worked off."""
    for block in blocks(count, size):
        yield np.array(open_array(path)[block])
        bar.update(block.stop - block.start)


if __name__ == "__main__":
    run_main(main)
