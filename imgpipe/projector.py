"""What TensorBoard's embedding projector shows: vectors, and a picture and facts of each.

Source: tensorboard/plugins/projector in TensorBoard 2.21, its server and its page.
"""

import math

import numpy as np
import pandas as pd
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from imgpipe.images import to_picture
from imgpipe.stage import progress_bar

CONFIG = "projector_config.pbtxt"  # the name that the server looks for
SPRITES = "sprites.png"
METADATA = "metadata.tsv"
LARGEST_SHEET = 8192  # pixels a side; the page refuses more
LARGEST_THUMBNAIL = 64  # pixels a side; the page draws them smaller
MOST_NUMBERS = 1 << 25  # in one set of vectors: 128 MB for the browser


def limit_points(dimensions: int) -> int:
    """Return of how many vectors with so many dimensions the browser can be asked."""
    return max(1, MOST_NUMBERS // dimensions)


def draw_sprites(images: np.ndarray, rows: np.ndarray) -> tuple[Image.Image, tuple[int, int]]:
    """Draw thumbnails of images on one sheet, row by row.

    Args:
        images: uint8 (n, height, width, 1 or 3), may be a memory map.
        rows: integers (m,), which of them.

    Returns:
        The sheet, grey or RGB, and the width and height of a thumbnail. It has as many thumbnails
        in a column as in a row, the last of them empty: the page counts on that.
    """
    side = math.ceil(math.sqrt(len(rows)))
    height, width = images.shape[1:3]
    scale = min(1, min(LARGEST_THUMBNAIL, LARGEST_SHEET // side) / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new(to_picture(images[0]).mode, (side * size[0], side * size[1]))
    for place, row in enumerate(progress_bar(rows, unit=" images", desc="thumbnails")):
        thumbnail = to_picture(images[row]).resize(size, Image.Resampling.BOX)
        sheet.paste(thumbnail, (place % side * size[0], place // side * size[1]))
    return sheet, size


def format_metadata(predictions: pd.DataFrame) -> str:
    """Tell of each point what its image shows and what it was taken for.

    Args:
        predictions: texts, one row a point: id, actual, predicted, probability.

    Returns:
        Lines of values between tabs, below their names: index, actual, predicted, result (right
        or wrong), probability, id. The first that are no numbers, actual, are the points' labels.
        White space within a text, tabs and line ends among it, is made a space.
    """
    lines = [["index", "actual", "predicted", "result", "probability", "id"]]
    for index, row in enumerate(predictions.itertuples()):
        result = "right" if row.actual == row.predicted else "wrong"
        texts = (row.actual, row.predicted, result, row.probability, row.id)
        lines.append([str(index), *(" ".join(text.split()) for text in texts)])
    return "".join("\t".join(line) + "\n" for line in lines)


def encode_vectors(vectors: np.ndarray) -> np.ndarray:
    """Give vectors the form in which the server reads them fast.

    It takes every file for text, unless it finds that it is none: then for the bytes of float32.
    Ten times as large, the text of 10,000 pictures would take ten seconds at each start.

    Args:
        vectors: float (n, dimensions).

    Returns:
        float32, the same shape and numbers, but for the last eight bits of the first one: 255,
        which occurs in no text.
    """
    encoded = np.array(vectors, "<f4")
    encoded.view(np.uint8)[0, 0] = 255
    return encoded


def describe_points(spaces: dict[str, np.ndarray], sprite_size: tuple[int, int]) -> str:
    """Write the configuration that the server looks for, beside the files that it names.

    Args:
        spaces: name of a set of vectors to these (n, dimensions); their file is <name>.bytes.
        sprite_size: width and height of a thumbnail.
    """
    config = ProjectorConfig()
    for name, vectors in spaces.items():
        embedding = config.embeddings.add(
            tensor_name=name,
            tensor_path=f"{name}.bytes",
            tensor_shape=vectors.shape,
            metadata_path=METADATA,
        )
        embedding.sprite.image_path = SPRITES
        embedding.sprite.single_image_dim.extend(sprite_size)
    return text_format.MessageToString(config)
