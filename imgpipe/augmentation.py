"""Random changes of training images: one affine transform an image, resampled once, and light."""

import math

import numpy as np
import tensorflow as tf

from imgpipe.schema import Augmentation

# Copies for a backbone do not follow `seed`: computing their features takes long, and another
# seed of the training shall not ask for it anew. Nor do two seeds then differ in their copies.
COPIES_SEED = 0


def draw_transforms(settings: Augmentation, count, image_size, seed) -> tf.Tensor:
    """Draw one affine transform an image, about the image's centre.

    Rotation, shear, zoom of each axis, shifts and flips are drawn uniformly and independently,
    then composed: an output pixel at p shows the input at R(rotation) · S(shear) · Z(zoom) · p +
    shift, where a flip is a zoom by -1. A shift's range is a share of the width or height below 1
    and pixels from 1 up, as Keras's ImageDataGenerator counted it.

    Args:
        settings: the ranges.
        count: number of images.
        image_size: (height, width) in pixels.
        seed: int (2,); the same seed gives the same transforms.

    Returns:
        float32 (count, 8), projective transforms as tf.raw_ops.ImageProjectiveTransformV3 has
        them: output (x, y) to input (a·x + b·y + c, d·x + e·y + f).
    """
    height, width = image_size
    unit = tf.random.stateless_uniform([8, count], seed, -1.0, 1.0)
    angle = unit[0] * math.radians(settings.rotation)
    shear = unit[1] * math.radians(settings.shear)
    zoom_x, zoom_y = 1 + settings.zoom * unit[2], 1 + settings.zoom * unit[3]
    shift_x = unit[4] * _in_pixels(settings.width_shift, width)
    shift_y = unit[5] * _in_pixels(settings.height_shift, height)
    if settings.horizontal_flip:
        zoom_x *= tf.where(unit[6] < 0, -1.0, 1.0)
    if settings.vertical_flip:
        zoom_y *= tf.where(unit[7] < 0, -1.0, 1.0)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The product of [[cos, -sin], [sin, cos]], [[1, -sin(shear)], [0, cos(shear)]] and the zoom.
    a, d = cos * zoom_x, sin * zoom_x
    b = (-cos * tf.sin(shear) - sin * tf.cos(shear)) * zoom_y
    e = (-sin * tf.sin(shear) + cos * tf.cos(shear)) * zoom_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    c = centre_x - a * centre_x - b * centre_y + shift_x
    f = centre_y - d * centre_x - e * centre_y + shift_y
    zero = tf.zeros_like(a)
    return tf.stack([a, b, c, d, e, f, zero, zero], axis=1)


def augment_images(images: tf.Tensor, settings: Augmentation, seed) -> tf.Tensor:
    """Change each image by a random affine map, then by contrast and brightness, of its own.

    Args:
        images: uint8 (n, height, width, channels).
        settings: the ranges.
        seed: int (2,); the same seed gives the same result.

    Returns:
        uint8, the same shape; bilinear, the border pixel repeated outside the image, and what
        grows too bright or too dark cut at 255 and 0.
    """
    size = tf.shape(images)[1:3]
    transforms = draw_transforms(
        settings, tf.shape(images)[0], (images.shape[1], images.shape[2]), seed
    )
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    light = tf.random.experimental.stateless_fold_in(seed, 1)
    return tf.saturate_cast(tf.round(_change_light(moved, settings, light)), tf.uint8)


def augment_part(images: np.ndarray, settings: Augmentation, copy: int, number: int) -> np.ndarray:
    """Make one part of an augmented copy of a set of images, the same each time.

    Args:
        images: uint8 (n, height, width, channels); left unchanged. Other parts of the same images
            give another copy.
        settings: the ranges.
        copy: number of the copy; each has draws of its own.
        number: of the part, likewise.

    Returns:
        uint8, the same shape.
    """
    seed = tf.random.experimental.stateless_fold_in((COPIES_SEED, copy), number)
    return augment_images(tf.constant(images), settings, seed).numpy()


def _in_pixels(shift: float, length: int) -> float:
    return shift * length if shift < 1 else shift


def _change_light(images: tf.Tensor, settings: Augmentation, seed) -> tf.Tensor:
    """Scale each image's differences from its mean, then add one number to all its pixels."""
    unit = tf.random.stateless_uniform([2, tf.shape(images)[0], 1, 1, 1], seed, -1.0, 1.0)
    if settings.contrast:
        mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
        images = mean + (1 + settings.contrast * unit[0]) * (images - mean)
    if settings.brightness:
        images += 255 * settings.brightness * unit[1]
    return images
