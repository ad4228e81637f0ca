"""Refuse image files that Pillow would take too much memory or time for."""

import re
from typing import BinaryIO

from PIL import Image

# Of an image file; full-frame cameras make 61 million. Decoding takes 4 bytes for each, and the
# array 3 more.
MOST_PIXELS = 64_000_000
# Where the decoder holds each pixel several times: WebP, progressive JPEG of four inks.
MOST_HELD_PIXELS = 40_000_000
_LONGEST_SIDE = 1_000_000  # pixels; each row takes memory of its own, and so does resizing
_LARGEST_PIECE = 6 * MOST_PIXELS  # bytes of a TIFF's strip or tile, which is decoded as a whole
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP = 258, 277, 278
_TILE_WIDTH, _TILE_LENGTH = 322, 323
# A JPEG may go over its pixels in any number of scans; ten are usual.
_MOST_SCANNED = 20 * MOST_PIXELS
_LARGEST_JPEG = 256 << 20  # bytes that are looked at
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def refuse_costly(image: Image.Image) -> None:
    """Refuse an image that was opened, but not decoded, if decoding it would cost too much.

    Raises:
        ValueError: what is too much.
    """
    width, height = image.size
    inks = image.mode == "CMYK" and "progressive" in image.info
    most = MOST_HELD_PIXELS if image.format == "WEBP" or inks else MOST_PIXELS
    if width * height > most:
        raise ValueError(f"it has more than {most:,} pixels")
    if max(width, height) > _LONGEST_SIDE:
        raise ValueError(f"it is more than {_LONGEST_SIDE:,} pixels long")
    if image.format in ("JPEG", "MPO"):
        _refuse_many_scans(image.fp, width * height)
    if image.format == "TIFF":
        _refuse_large_pieces(image)


def _refuse_many_scans(file: BinaryIO, pixels: int) -> None:
    """Refuse a JPEG of so many scans that decoding it would take minutes."""
    place = file.tell()
    file.seek(0)
    content = file.read(_LARGEST_JPEG)
    file.seek(place)
    # These two bytes also stand in thumbnails and the like, so that many are worth a second look.
    if content.count(bytes([0xFF, _START_OF_SCAN])) * pixels <= _MOST_SCANNED:
        return
    scans, position = 0, 0
    while marker := _JPEG_MARKER.search(content, position):
        kind, position = marker[1][0], marker.end()
        if kind == _END_OF_IMAGE:
            break
        scans += kind == _START_OF_SCAN
        position += int.from_bytes(content[position : position + 2])
    if scans * pixels > _MOST_SCANNED:
        raise ValueError(f"it has {scans:,} scans")


def _refuse_large_pieces(image: Image.Image) -> None:
    """Refuse a TIFF whose strips or tiles are large, whatever the size of the image."""
    tags = image.tag_v2
    width = tags.get(_TILE_WIDTH, image.width)
    height = tags.get(_TILE_LENGTH, min(tags.get(_ROWS_PER_STRIP, image.height), image.height))
    bits = tags.get(_SAMPLES_PER_PIXEL, 1) * max(tags.get(_BITS_PER_SAMPLE, (1,)))
    if width * height * bits > 8 * _LARGEST_PIECE:
        raise ValueError(f"it has strips or tiles of more than {_LARGEST_PIECE:,} bytes")
