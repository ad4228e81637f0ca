"""projector: prepare the test images for TensorBoard's embedding projector.

python -m stages.projector, then tensorboard --logdir data/tensorboard/projector
Reads the test images, their predictions and what the model's last layer gets; writes
data/tensorboard/projector: for at most 10,000 images (embedding.choose_rows) a sheet of
thumbnails, a table of classes, and two sets of vectors: the pixels, and the model's view of them.
"""

from pathlib import Path

import pandas as pd

from imgpipe import projector
from imgpipe.arrays import open_array
from imgpipe.embedding import choose_rows, flatten_images
from imgpipe.files import replacing
from imgpipe.stage import run_stage
from imgpipe.wording import word_error

TEST_IMAGES = Path("data/arrays/test_images.npy")
PENULTIMATE = Path("data/evaluation/penultimate.npy")
PREDICTIONS = Path("plots/predictions.csv")
COLUMNS = ["id", "actual", "predicted", "probability"]
PROJECTOR = Path("data/tensorboard/projector")


def main():
    """Write everything that the projector shows."""
    images = open_array(TEST_IMAGES)
    penultimate = open_array(PENULTIMATE)
    predictions = read_predictions()
    rows = choose_rows(len(images))
    if (len(predictions), len(penultimate)) != (len(images), len(rows)):
        raise ValueError(
            f"{PREDICTIONS} has {len(predictions):,} rows and {PENULTIMATE} {len(penultimate):,} "
            f"for {len(images):,} test images; run dvc repro"
        )
    kept = choose_rows(len(rows), projector.limit_points(penultimate.shape[1]))
    rows = rows[kept]
    spaces = {"pixels": flatten_images(images, rows), "model": penultimate[kept]}
    sheet, size = projector.draw_sprites(images, rows)
    metadata = projector.format_metadata(predictions.iloc[rows])
    with replacing(PROJECTOR) as folder:
        folder.mkdir()
        sheet.save(folder / projector.SPRITES)
        (folder / projector.METADATA).write_text(metadata, encoding="utf-8")
        for name, vectors in spaces.items():
            projector.encode_vectors(vectors).tofile(folder / f"{name}.bytes")
        (folder / projector.CONFIG).write_text(projector.describe_points(spaces, size))
    print(
        f"projector: {len(rows):,} test images in {PROJECTOR}, by {spaces['pixels'].shape[1]:,} "
        f"pixels and {spaces['model'].shape[1]:,} outputs of the model's last layer but one"
    )


def read_predictions() -> pd.DataFrame:
    """Read the predictions as texts; class names may look like numbers or missing values."""
    if not PREDICTIONS.is_file():
        raise FileNotFoundError(f"{PREDICTIONS}: not found; dvc repro makes it")
    try:
        return pd.read_csv(PREDICTIONS, keep_default_na=False, dtype=str, usecols=COLUMNS)
    except ValueError as error:
        raise ValueError(
            f"{PREDICTIONS}: is not whole ({word_error(error)}); remove it and run dvc repro"
        ) from None


if __name__ == "__main__":
    run_stage(main)
