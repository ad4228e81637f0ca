"""From image files and stored images to uint8 arrays of one size and channel count."""

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from imgpipe.costly_images import MOST_PIXELS, CountedReads, refuse_costly, refuse_unfinished_png
from imgpipe.wording import word_error

# What is decoded, whatever a file calls itself. Pillow knows more, some of it through other
# programs (EPS).
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_STRIP_PIXELS = 4_000_000  # converted at once
# EXIF orientation to the view of an upright array (height, width, 3) in which its pixels lie as
# they are stored. Source: Exif 2.32, tag 0x0112.
_STORED: dict[int | None, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
_SIDEWAYS = (5, 6, 7, 8)


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
        ValueError: it cannot be decoded, or decoding it would cost too much.
    """
    if isinstance(file, Path) and not file.is_file():
        if file.is_dir():
            raise ValueError(f"{name}: is a folder; name the image files in it")
        if file.exists():  # it may never give anything
            raise ValueError(f"{name}: is a pipe or device; name an image file")
    try:
        with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as content:
            return _decode(content, at_least)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except Image.DecompressionBombError:  # already when Pillow opens it
        reason = f"it has more than {MOST_PIXELS:,} pixels"
    except Exception as error:  # broken files make Pillow's decoders raise whatever there is
        reason = _reason(error)
    raise ValueError(f"{name}: cannot be decoded as an image ({reason})")


def _decode(file: BinaryIO, at_least: list[int] | None) -> np.ndarray:
    # Warned of is what the file's maker did, and images large by Pillow's measure.
    with (
        warnings.catch_warnings(action="ignore"),
        _unlogged(),
        Image.open(CountedReads(file), formats=_FORMATS) as image,
    ):
        refuse_costly(image)
        if at_least:
            side = 2 * max(at_least)  # twice, so that resizing has something to average
            image.draft(image.mode, (side, side))
        with _silent() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        if image.format == "PNG":
            refuse_unfinished_png(file, image)
        return _to_rgb(image)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Hold back what Pillow logs about broken files, which comes as an exception, too."""
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hold back what libtiff, which is native code, prints about broken files."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def fit_images(images: Iterable[np.ndarray], *, image_size: list[int], channels: int) -> np.ndarray:
    """Give images the size and channels that a dataset asks for.

    Args:
        images: each uint8 (height, width, 1 or 3).
        image_size: (height, width) wanted; images are stretched to it.
        channels: 1 or 3; grey is repeated to RGB, RGB is weighed to grey (ITU-R 601-2).

    Returns:
        uint8 (n, *image_size, channels).
    """
    # map, unlike a loop, has let go of an image when it asks for the next.
    fit = functools.partial(_fit_image, image_size=image_size, channels=channels)
    return np.stack(list(map(fit, images)))


def _fit_image(image: np.ndarray, image_size: list[int], channels: int) -> np.ndarray:
    if image.shape == (*image_size, channels):
        return image
    picture, mode = to_picture(image), "L" if channels == 1 else "RGB"
    if picture.mode != mode:  # Pillow would copy it
        picture = picture.convert(mode)
    height, width = image_size
    # Bilinear, and over the whole footprint of a pixel when shrinking.
    return _to_array(picture.resize((width, height), Image.Resampling.BILINEAR))


def to_picture(image: np.ndarray) -> Image.Image:
    """Turn a uint8 array (height, width, 1 or 3) into a Pillow image, "L" or "RGB"."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _to_array(picture: Image.Image) -> np.ndarray:
    array = np.asarray(picture, np.uint8)
    return array[..., np.newaxis] if array.ndim == 2 else array


def _orientation(image: Image.Image) -> int | None:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return orientation if orientation in _STORED else None
    except Exception:  # as of decoding; what cannot be read says nothing, and browsers ignore it
        return None


def _to_rgb(picture: Image.Image) -> np.ndarray:
    """Turn a Pillow image of any mode into uint8 (height, width, 3), RGB over white, upright."""
    lowest, highest = _range(picture) if picture.mode == "F" else (None, None)
    orientation = _orientation(picture)
    height, width = picture.size if orientation in _SIDEWAYS else picture.size[::-1]
    image = np.empty((height, width, 3), np.uint8)
    stored = _STORED.get(orientation, lambda upright: upright)(image)
    for rows, strip in _strips(picture):
        if strip.mode.startswith("I"):  # 16 bits a pixel: keep the upper eight
            values = np.asarray(strip).clip(0, 65535) // 257
            strip = Image.fromarray(values.astype(np.uint8))
        elif strip.mode == "F":  # no range is agreed on: the picture's own counts
            values = np.asarray(strip, np.float64) - lowest
            values *= 255 / ((highest - lowest) or 1.0)
            strip = Image.fromarray(values.astype(np.uint8))
        if strip.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        stored[rows] = strip.convert("RGB")
    return image


def _strips(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Cut a picture into strips: each conversion of a large one as a whole would add its size."""
    height = max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, height):
        bottom = min(top + height, picture.height)
        whole = bottom - top == picture.height
        yield (
            slice(top, bottom),
            picture if whole else picture.crop((0, top, picture.width, bottom)),
        )


def _range(picture: Image.Image) -> tuple[float, float]:
    """Return the least and the greatest value of a picture of floats."""
    ranges = []
    for _, strip in _strips(picture):
        values = np.asarray(strip, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds infinite values or such that are no numbers")
        ranges.append((values.min(), values.max()))
    lowest, highest = zip(*ranges, strict=True)
    return min(lowest), max(highest)


def _reason(error: Exception) -> str:
    """Word Pillow's reason without the address of the object that it names."""
    text = word_error(error)
    return "not an image file" if text.startswith("cannot identify image file") else text
