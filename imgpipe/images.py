"""From image files and stored images to uint8 arrays of one size and channel count."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

# What is decoded, whatever a file calls itself. Pillow knows more, some of it through other
# programs (EPS).
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# What Pillow's decoders raise on files that are not what they claim to be.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)


def decode_image(
    file: Path | BinaryIO, name: str, *, at_least: list[int] | None = None
) -> np.ndarray:
    """Decode a JPEG, PNG, WebP, BMP, GIF or TIFF file.

    Args:
        file: the file; of an animation, the first frame counts.
        name: of the file, for errors.
        at_least: (height, width); a JPEG much larger than that may be decoded at a fraction of its
            size, which saves most of the time. None for the whole image.

    Returns:
        uint8 (height, width, 3), RGB, upright (EXIF orientation applied), transparent parts
        white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded.
    """
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if at_least:
                side = 2 * max(at_least)  # twice, so that resizing has something to average
                image.draft(image.mode, (side, side))
            picture = _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: cannot be decoded as an image ({_reason(error)})") from None
    return _to_array(picture)


def fit_images(images: Iterable[np.ndarray], *, image_size: list[int], channels: int) -> np.ndarray:
    """Give images the size and channels that a dataset asks for.

    Args:
        images: each uint8 (height, width, 1 or 3).
        image_size: (height, width) wanted; images are stretched to it.
        channels: 1 or 3; grey is repeated to RGB, RGB is weighed to grey (ITU-R 601-2).

    Returns:
        uint8 (n, *image_size, channels).
    """
    return np.stack([_fit_image(image, image_size, channels) for image in images])


def _fit_image(image: np.ndarray, image_size: list[int], channels: int) -> np.ndarray:
    if image.shape == (*image_size, channels):
        return image
    picture = to_picture(image).convert("L" if channels == 1 else "RGB")
    height, width = image_size
    # Bilinear, and over the whole footprint of a pixel when shrinking.
    return _to_array(picture.resize((width, height), Image.Resampling.BILINEAR))


def to_picture(image: np.ndarray) -> Image.Image:
    """Turn a uint8 array (height, width, 1 or 3) into a Pillow image, "L" or "RGB"."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _to_array(picture: Image.Image) -> np.ndarray:
    array = np.asarray(picture, np.uint8)
    return array[..., np.newaxis] if array.ndim == 2 else array


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Turn a Pillow image of any mode into "RGB", over white."""
    if picture.mode.startswith("I"):  # 16 bits a pixel: keep the upper eight
        values = np.asarray(picture, np.int64).clip(0, 65535)
        picture = Image.fromarray((values // 257).astype(np.uint8))
    elif picture.mode == "F":  # no range is agreed on: the picture's own counts
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds infinite values or such that are no numbers")
        span = np.ptp(values) or 1.0
        picture = Image.fromarray(((values - values.min()) * (255 / span)).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return picture.convert("RGB")


def _reason(error: Exception) -> str:
    """Word Pillow's reason without the address of the object that it names."""
    text = " ".join(str(error).split())
    return "not an image file" if text.startswith("cannot identify image file") else text
