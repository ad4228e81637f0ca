"""features: run images through a frozen backbone, once. Reads data/arrays; writes data/features/.

For a model with a backbone, {train,val,test}.npy are float16 (n, feature_dim), and backbone/ holds
its settings (precision resolved) and the weights that made the features. For a model without one
the arrays are empty, the settings null, and TensorFlow is not imported.
"""

import json
import time
from pathlib import Path

import numpy as np

from imgpipe.arrays import SUBSETS, blocks, open_array, write_array
from imgpipe.files import replacing
from imgpipe.params import Params, load_params
from imgpipe.stage import progress_bar, quiet_import, run_main

ARRAYS = Path("data/arrays")
FEATURES = Path("data/features")


def main():
    """Write the features of each subset, or empty arrays."""
    params = load_params()
    with replacing(FEATURES / "backbone") as folder:
        folder.mkdir()
        if params.recipe.backbone:
            settings, summary = write_features(params, folder / "backbone.weights.h5")
        else:
            settings, summary = write_empty(), f"{params.model_name} has no backbone"
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
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
    total, started = sum(counts.values()), time.perf_counter()
    with progress_bar(total=total, unit=" images", desc=settings.network) as bar:
        for subset, count in counts.items():
            images = read_blocks(ARRAYS / f"{subset}_images.npy", count, 8 * batch_size, bar)
            features = backbones.extract_features(backbone, images, batch_size)
            write_array(FEATURES / f"{subset}.npy", (count, feature_dim), np.float16, features)
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
