"""imgpipe.costly_images: what would take too much memory or time is refused, and half a PNG."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from imgpipe import costly_images
from imgpipe.images import decode_image
from tiny import ROOT

MEASURE = """
import resource, sys
from pathlib import Path
from imgpipe.fingerprints import fingerprint_images
from imgpipe.images import decode_image, fit_images
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, images = peak(), map(decode_image, [Path(sys.argv[1])], ["a.png"])
if sys.argv[2] == "fit":
    fit_images(images, image_size=[28, 28], channels=3)
else:
    fingerprint_images(images)
print(peak() - before)
"""


def decode(content):
    return decode_image(io.BytesIO(content), "a.jpg")


def refused(content, reason):
    with pytest.raises(ValueError, match=rf"^a\.jpg: cannot be decoded as an image \({reason}"):
        decode(content)
    return True


def chunk(kind, content=b""):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", checksum)


def make_png(width, height, data, *, depth=8, color=2, interlaced=False, before=b""):
    """Make a PNG of data that were not packed yet."""
    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, interlaced)
    packed = zlib.compress(data)
    chunks = [chunk(b"IHDR", header), before, chunk(b"IDAT", packed), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("use", ["fingerprint", "fit"])
def test_an_image_takes_little_more_memory_than_pillow_and_its_array(tmp_path, use):
    side = 5000
    (tmp_path / "a.png").write_bytes(make_png(side, side, bytes((1 + 3 * side) * side)))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "a.png"), use]
    peak = int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert peak < (4 + 3) * side * side + (10 << 20)


def test_the_longest_side():
    refused(make_png(1, 1_000_001, b""), "it is more than 1,000,000 pixels long")
    refused(make_png(1_000_001, 1, b""), "it is more than 1,000,000 pixels long")


def test_images_that_decoders_hold_several_times_may_have_fewer_pixels(monkeypatch):
    monkeypatch.setattr(costly_images, "MOST_HELD_PIXELS", 100)
    for mode, format, progressive, small in [
        ("RGB", "WEBP", False, False),
        ("CMYK", "JPEG", True, False),
        ("CMYK", "JPEG", False, True),
        ("RGB", "JPEG", True, True),
    ]:
        file = io.BytesIO()
        Image.new(mode, (11, 10)).save(file, format, progressive=progressive)
        if small:
            assert decode(file.getvalue()).shape == (10, 11, 3)
        else:
            refused(file.getvalue(), "it has more than 100 pixels")


def make_tiff(tags):
    entries = [struct.pack("<HHLL", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(8)


def test_a_small_tiff_of_large_tiles_is_refused_undecoded():
    """Its decoder makes room for a whole tile, of which the image may be a corner."""
    lzw, place = 5, 8
    tags = {256: 100, 257: 100, 258: 8, 259: lzw, 262: 1, 277: 1, 322: 46_000, 323: 46_000}
    refused(make_tiff({**tags, 324: place, 325: 8}), "it has strips or tiles of more than 384,000,")
    tags = {256: 8_000, 257: 8_000, 258: 8, 259: lzw, 262: 1, 277: 1, 278: 2**32 - 1}
    refused(make_tiff({**tags, 273: place, 279: 8}), "(?!it has strips)")  # whatever it says


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "color"), [(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (8, 6)]
)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 5), (8, 8), (17, 2), (2, 17)])
@pytest.mark.parametrize("value", [0, 255])
def test_a_png_whose_data_end_early_is_refused(size, depth, color, interlaced, value):
    """Pillow takes the end of the data for the end of the picture, whose rest stays black."""
    width, height = size
    passes = costly_images._PNG_PASSES if interlaced else [(0, 0, 1, 1)]
    data, bits = b"", depth * {0: 1, 2: 3, 4: 2, 6: 4}[color]
    for left, top, across, down in passes:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        if columns:
            data += (b"\0" + bytes([value]) * ((columns * bits + 7) // 8)) * rows
    options = {"depth": depth, "color": color, "interlaced": interlaced}
    image = decode(make_png(*size, data, **options))
    assert image.shape == (height, width, 3)
    np.testing.assert_array_equal(decode(make_png(*size, data + b"more", **options)), image)
    refused(make_png(*size, data[:-1], **options), "(its data end before|image file is truncated)")


@pytest.mark.parametrize("place", ["before", "within", "after"])
def test_a_png_of_a_million_chunks(monkeypatch, place):
    monkeypatch.setattr(costly_images, "_MOST_READS", 1000)
    content = make_png(1, 1, bytes(4))
    position = content.index({"before": b"IDAT", "within": b"IDAT", "after": b"IEND"}[place]) - 4
    many = chunk(b"IDAT" if place == "within" else b"prVt") * 2000
    refused(content[:position] + many + content[position:], "it consists of too many pieces")


def test_a_gif_of_a_million_comments(monkeypatch):
    monkeypatch.setattr(costly_images, "_MOST_READS", 1000)
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "GIF")
    content = file.getvalue()
    place = content.index(b",")
    comment = b"!\xfe" + b"\x01a" * 2000 + b"\0"
    refused(content[:place] + comment + content[place:], "it consists of too many pieces")


def test_a_jpeg_of_thousands_of_exif_segments():
    """Pillow takes ten minutes for 200 MB of them."""
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + 4) + b"Exif\0\0" + bytes(4)
    refused(b"\xff\xd8" + segment * 101, "it has more than 100 EXIF segments")
