"""Random changes of training images: one affine transform an image, resampled once."""

import math

import tensorflow as tf

from imgpipe.schema import Augmentation


def draw_transforms(settings: Augmentation, count, image_size, seed) -> tf.Tensor:
    """Draw one affine transform an image, about the image's centre.

    Rotation, shear, zoom of each axis and shifts are drawn uniformly and independently, then
    composed: an output pixel at p shows the input at R(rotation) · S(shear) · Z(zoom) · p + shift.

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
    unit = tf.random.stateless_uniform([6, count], seed, -1.0, 1.0)
    angle = unit[0] * math.radians(settings.rotation)
    shear = unit[1] * math.radians(settings.shear)
    zoom_x, zoom_y = 1 + settings.zoom * unit[2], 1 + settings.zoom * unit[3]
    shift_x = unit[4] * (settings.width_shift * width)
    shift_y = unit[5] * (settings.height_shift * height)
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
    """Transform each image by a random affine map of its own.

    Args:
        images: uint8 (n, height, width, channels).
        settings: the ranges.
        seed: int (2,); the same seed gives the same result.

    Returns:
        uint8, the same shape; bilinear, the border pixel repeated outside the image.
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
    return tf.cast(tf.round(moved), tf.uint8)
