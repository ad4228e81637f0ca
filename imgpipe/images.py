"""From image files and stored images to uint8 arrays of one size and channel count."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# What Pillow's decoders raise on files that are not what they claim to be.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)


def load_image(path: Path, *, image_size: list[int], channels: int) -> np.ndarray:
    """Decode an image file of any kind that Pillow knows.

    Args:
        path: the file; of an animation, the first frame counts.
        image_size: (height, width) wanted; the picture is stretched to it.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (height, width, channels), upright (EXIF orientation applied), transparent parts
        white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            picture = convert_picture(ImageOps.exif_transpose(image), channels)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be decoded as an image ({error})") from None
    return _resize_picture(picture, image_size)


def convert_picture(picture: Image.Image, channels: int) -> Image.Image:
    """Turn a Pillow image of any mode into "L" (1 channel) or "RGB" (3), over white."""
    if picture.mode.startswith("I"):  # 16 bits a pixel: keep the upper eight
        values = np.asarray(picture, np.int64).clip(0, 65535)
        picture = Image.fromarray((values // 257).astype(np.uint8))
    elif picture.mode == "F":  # no range is agreed on: the picture's own counts
        values = np.asarray(picture, np.float64)
        span = np.ptp(values) or 1.0
        picture = Image.fromarray(((values - values.min()) * (255 / span)).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return picture.convert("L" if channels == 1 else "RGB")


def fit_images(images: np.ndarray, *, image_size: list[int], channels: int) -> np.ndarray:
    """Give stored images the size and channels that a dataset asks for.

    Args:
        images: uint8 (n, height, width, 1 or 3).
        image_size: (height, width) wanted.
        channels: 1 or 3; grey is repeated to RGB, RGB is weighed to grey (ITU-R 601-2).

    Returns:
        uint8 (n, *image_size, channels); `images` itself where nothing changes.
    """
    if images.shape[1:] == (*image_size, channels):
        return images
    fitted = np.empty((len(images), *image_size, channels), np.uint8)
    for image, target in zip(images, fitted, strict=True):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        target[:] = _resize_picture(convert_picture(picture, channels), image_size)
    return fitted


def _resize_picture(picture: Image.Image, image_size: list[int]) -> np.ndarray:
    """Resize (bilinear, over the whole footprint of a pixel when shrinking) to an array."""
    height, width = image_size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(picture, np.uint8)
    return array[..., np.newaxis] if array.ndim == 2 else array
