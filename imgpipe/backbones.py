"""Frozen VGG networks: building one, and turning images into features with it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from imgpipe.arrays import blocks
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
    # On processors the convolutions in float32 are faster than Keras's in any precision.
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return "float32"
    details = tf.config.experimental.get_device_details(devices[0])
    return "bfloat16" if details.get("compute_capability", (0, 0)) >= (8, 0) else "float32"


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
        x = keras.ops.cast(images, "float32")  # integers would be rounded again where no graph runs
        x = keras.layers.Resizing(*settings.image_size, antialias=True, dtype="float32")(x)
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

    In float32 and without a GPU, imgpipe.winograd computes them: three times as fast as Keras, and
    the same but for rounding.

    Args:
        backbone: as build_backbone makes it.
        parts: arrays uint8 (n, height, width, channels); left unchanged.
        batch_size: images in one pass through the network.

    Yields:
        float16 (n, feature_dim) for each part; values beyond float16's range become its largest.
    """
    for images in parts:
        compute = _prepare(backbone, images.shape[1:])
        features = np.empty((len(images), backbone.output_shape[1]), np.float16)
        for batch in blocks(len(images), batch_size):
            values = compute(images[batch])
            features[batch] = np.clip(values, -_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        yield features


def choose_batch_size(image_size: list[int]) -> int:
    """Choose a batch that keeps a VGG's largest maps (64 channels) below 150 MB in float32."""
    height, width = image_size
    return max(1, min(256, 150_000_000 // (height * width * 64 * 4)))


def _has_fast_convolutions(backbone: keras.Model) -> bool:
    """Tell whether imgpipe.winograd computes a backbone's features faster than Keras."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return backbone.layers[-2].compute_dtype == "float32" and not on_gpu


@lru_cache(maxsize=1)  # for predictions of one image after the other
def _prepare(backbone: keras.Model, image_shape: tuple) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function from images uint8 (n, height, width, channels) to features, float32.

    It keeps the weights that the backbone has now, which are not to change.
    """
    prepare = _prepare_chain if _has_fast_convolutions(backbone) else _prepare_keras
    return prepare(backbone, image_shape)


def _prepare_keras(backbone: keras.Model, image_shape: tuple) -> Callable[[np.ndarray], np.ndarray]:
    batch = tf.TensorSpec((None, *image_shape), tf.uint8)
    compute = tf.function(backbone, input_signature=[batch])
    return lambda images: compute(tf.constant(images)).numpy()


def _prepare_chain(backbone: keras.Model, image_shape: tuple) -> Callable[[np.ndarray], np.ndarray]:
    # It takes half a second, which models without a backbone need not wait for.
    from imgpipe.direct_convolution import DirectConvolution
    from imgpipe.winograd import Chain, TiledConvolution

    (resizing,) = (x for x in backbone.layers if isinstance(x, keras.layers.Resizing))
    pooled = [x.input for x in backbone.layers if isinstance(x, keras.layers.MaxPooling2D)]
    first, *others = (x for x in backbone.layers if isinstance(x, keras.layers.Conv2D))
    convolutions = [DirectConvolution(*_fold_scaling(resizing, first), *first.input.shape[1:3])]
    for layer in others:
        kernel, bias = (np.asarray(variable) for variable in layer.weights)
        pools = any(layer.output is x for x in pooled)
        size = layer.input.shape[1:3]
        convolutions.append(TiledConvolution(kernel, bias, *size, pools=pools))
    chain, pool = Chain(convolutions), backbone.layers[-1]
    batch = tf.TensorSpec((None, *image_shape), tf.uint8)
    resize = tf.function(keras.Model(backbone.input, resizing.output), input_signature=[batch])

    def compute(images: np.ndarray) -> np.ndarray:
        resized = resize(tf.constant(images)).numpy()
        return chain.compute(resized, lambda maps: pool(maps).numpy())

    return compute


def _fold_scaling(
    resizing: keras.layers.Resizing, convolution: keras.layers.Conv2D
) -> tuple[np.ndarray, np.ndarray]:
    """Fold into the first convolution what lies between it and the resized images.

    That is an affine function of each pixel's channels. Around the images lie zeros, but only
    once they are scaled: so outputs at an edge have other biases.

    Returns:
        kernel: float32 (3, 3, channels of the images, channels out).
        biases: float32 (3, 3, channels out), for outputs in the first, any other and the last
            row, and likewise column.
    """
    scale = keras.Model(resizing.output, convolution.input)
    _, *size, channels = resizing.output.shape
    colours = 255 * np.eye(channels + 1, channels, -1, np.float32)  # black, then one channel each
    scaled = scale(np.broadcast_to(colours[:, None, None], (channels + 1, *size, channels)))
    offset, *others = np.asarray(scaled)[:, 0, 0].astype(np.float64)
    kernel, bias = (np.asarray(variable, np.float64) for variable in convolution.weights)
    folded = np.einsum("cs,ijsk->ijck", (others - offset) / 255, kernel)
    taps = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 0]])  # those inside, at each of the three places
    biases = bias + np.einsum("yi,xj,s,ijsk->yxk", taps, taps, offset, kernel)
    return folded.astype(np.float32), biases.astype(np.float32)


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
