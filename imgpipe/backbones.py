"""Frozen VGG networks: building one, and turning images into features with it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from imgpipe.environment import read_processor
from imgpipe.schema import Backbone
from imgpipe.weights_files import load_weights

# Mean of ImageNet's training images in blue, green, red. Source: Simonyan & Zisserman 2015,
# section 2.1, with the values of the published Caffe models.
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
RANDOM_WEIGHTS_SEED = 0  # weights: null does not follow `seed`, so that a new seed reuses features
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def resolve_precision(precision: str) -> str:
    """Turn "auto" into what this machine computes fast: "bfloat16" or "float32"."""
    if precision != "auto":
        return precision
    if tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[0]
        )
        return "bfloat16" if details.get("compute_capability", (0, 0)) >= (8, 0) else "float32"
    _, instructions = read_processor()
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & instructions else "float32"


def build_backbone(settings: Backbone, channels: int, weights: Path | None = None) -> keras.Model:
    """Build the network from stored images to features.

    Resizing, grey to RGB, scaling and pooling are part of the graph: whoever holds the model
    feeds it uint8 images of the dataset's size and cannot scale them twice.

    Args:
        settings: the backbone block; `precision` resolved, not "auto".
        channels: 1 or 3, of the stored images.
        weights: a weights file for the whole network without its top; None for random weights,
            the same ones each time.

    Returns:
        A frozen keras.Model from uint8 (n, height, width, channels), any height and width, to
        float32 (n, feature_dim).

    Raises:
        ValueError: the weights file does not fit the network.
    """
    keras.utils.set_random_seed(RANDOM_WEIGHTS_SEED)
    with _dtype_policy(settings.precision):
        images = keras.Input((None, None, channels), dtype="uint8", name="images")
        x = keras.layers.Resizing(*settings.image_size, antialias=True, dtype="float32")(images)
        if channels == 1:
            x = keras.layers.Concatenate(name="grey_to_rgb", dtype="float32")([x, x, x])
        network = _build_network(settings, _scale(x, settings.scaling))
        if weights is not None:
            load_weights(network, weights, f"give a file for {network.name} without its top")
        pool = {
            "flatten": keras.layers.Flatten,
            "max": keras.layers.GlobalMaxPooling2D,
            "avg": keras.layers.GlobalAveragePooling2D,
        }[settings.pooling]
        maps = network.get_layer(settings.layer).output
        features = pool(dtype="float32", name="features")(maps)
        backbone = keras.Model(images, features, name=settings.network)
    backbone.trainable = False
    return backbone


def extract_features(
    backbone: keras.Model, parts: Iterable[np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
    """Turn images into features, one part at a time.

    Args:
        backbone: as build_backbone makes it.
        parts: arrays uint8 (n, height, width, channels); left unchanged.
        batch_size: images in one pass through the network.

    Yields:
        float16 (n, feature_dim) for each part; values beyond float16's range become its largest.
    """
    compute = None
    for images in parts:
        if compute is None:
            batch = tf.TensorSpec((None, *images.shape[1:]), tf.uint8)
            compute = tf.function(backbone, input_signature=[batch])
        features = np.empty((len(images), backbone.output_shape[1]), np.float16)
        for start in range(0, len(images), batch_size):
            values = compute(tf.constant(images[start : start + batch_size]))
            features[start : start + batch_size] = np.clip(
                values, -_LARGEST_FLOAT16, _LARGEST_FLOAT16
            )
        yield features


def choose_batch_size(image_size: list[int]) -> int:
    """Choose a batch that keeps a VGG's largest maps (64 channels) below 150 MB in float32."""
    height, width = image_size
    return max(1, min(256, 150_000_000 // (height * width * 64 * 4)))


def _scale(x, scaling: str):
    if scaling == "unit":
        return keras.layers.Rescaling(1 / 255, dtype="float32", name="unit")(x)
    return keras.layers.Normalization(
        mean=IMAGENET_MEAN_BGR, variance=(1.0, 1.0, 1.0), dtype="float32", name="imagenet"
    )(x[..., ::-1])


def _build_network(settings: Backbone, scaled_images) -> keras.Model:
    """Build the whole network without its top, on images that are resized and scaled."""
    build = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}
    return build[settings.network](
        weights=None,
        include_top=False,
        input_shape=(*settings.image_size, 3),
        input_tensor=scaled_images,
    )


@contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    """Build layers that compute in `precision` and keep their weights in float32."""
    before = keras.config.dtype_policy()
    policy = precision if precision == "float32" else f"mixed_{precision}"
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
