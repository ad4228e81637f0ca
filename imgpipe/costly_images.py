"""Refuse image files that Pillow would take too much memory or time for, or half of the pixels."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
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
_MOST_READS = 500_000  # of a file; a PNG of 256 MiB takes 130,000
_MOST_EXIF = 100  # segments; one is usual
# A JPEG may go over its pixels in any number of scans; ten are usual.
_MOST_SCANNED = 20 * MOST_PIXELS
_LARGEST_JPEG = 256 << 20  # bytes that are looked at
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the kind of colour
# First column, first row, and steps between them, of each pass over an interlaced PNG.
# Source: Portable Network Graphics (third edition), section 8.1.
_PNG_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PNG_PIECE = 1 << 20  # bytes that are unpacked at once


class CountedReads:
    """A file that refuses to be read without end, piece by piece.

    Pillow takes its time for each chunk, block or marker, however small it is, and reads them one
    by one.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._left = _MOST_READS
        self._exif_left = _MOST_EXIF

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it consists of too many pieces")
        piece = self._file.read(size)
        # Pillow joins a JPEG's to one another, and copies all that it has for each.
        self._exif_left -= piece.startswith(b"Exif\0\0")
        if self._exif_left < 0:
            raise ValueError(f"it has more than {_MOST_EXIF} EXIF segments")
        return piece

    def __getattr__(self, name: str):
        return getattr(self._file, name)


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


def refuse_unfinished_png(file: BinaryIO, picture: Image.Image) -> None:
    """Refuse a PNG whose packed data end before its pixels, of which Pillow leaves the rest black.

    Rows come one after the other, so that all are there if anything is in the last. If it is
    black, or the PNG interlaced, the data are unpacked once more to be counted.

    Args:
        file: the PNG.
        picture: as Pillow decoded it.
    """
    file.seek(16)  # IHDR comes first
    width, height, depth, color, _, _, interlaced = struct.unpack(">LLBBBBB", file.read(13))
    last_row = picture.crop((0, height - 1, width, height))
    if not interlaced and np.asarray(last_row).any():
        return
    passes = _PNG_PASSES if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:  # each row begins with a byte for its filter
            wanted += rows * (1 + (columns * depth * _PNG_SAMPLES[color] + 7) // 8)
    for count in _unpack_png(file):
        wanted -= count
        if wanted <= 0:
            return
    raise ValueError("its data end before its pixels")


def _unpack_png(file: BinaryIO) -> Iterator[int]:
    """Unpack the data of a PNG, piece by piece; yield how many bytes each has."""
    unpacking = zlib.decompressobj()
    position, kind = 8, b""
    while kind != b"IEND" and not unpacking.eof:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        size, kind = int.from_bytes(header[:4]), header[4:]
        position += 12 + size
        packed = file.read(size) if kind == b"IDAT" else b""
        while packed and not unpacking.eof:
            yield len(unpacking.decompress(packed, _PNG_PIECE))
            packed = unpacking.unconsumed_tail
