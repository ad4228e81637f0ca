"""imgpipe.images: any file, one kind of array."""

import io
import os
import struct
import subprocess
import sys
import warnings
import weakref
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from imgpipe import costly_images, images
from imgpipe.images import decode_image, fit_images
from tiny import ROOT

# Every pixel of the picture's halves: left red, right blue, as each mode can say it.
RED, BLUE = (200, 30, 40), (20, 60, 210)


def save(picture, format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    file.seek(0)
    return file


def decode(file, **options):
    return decode_image(file, "a.jpg", **options)


def halves():
    picture = Image.new("RGB", (16, 8), RED)
    picture.paste(BLUE, (8, 0, 16, 8))
    return picture


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
    ],
)
def test_formats(format, options):
    image = decode(save(halves(), format, **options))
    lossy = format == "JPEG" or (format == "WEBP" and not options)
    assert image.shape == (8, 16, 3) and image.dtype == np.uint8
    for part, color in ((image[:, :6], RED), (image[:, 10:], BLUE)):
        assert abs(part.astype(int) - color).max() <= (12 if lossy else 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "PA", "CMYK", "L", "LA", "1"])
def test_modes(mode):
    format = "TIFF" if mode in ("CMYK", "PA") else "PNG"
    source = halves().quantize(4) if mode == "P" else halves().convert(mode)
    image = decode(save(source, format))
    np.testing.assert_array_equal(image, np.asarray(source.convert("RGB")))


def test_an_adobe_jpeg_in_cmyk():
    """Such files hold inverted inks: read plainly, the picture would be a negative."""
    image = decode(save(halves().convert("CMYK"), "JPEG", quality=95))
    assert abs(image[:, :6].astype(int) - RED).max() <= 12


def test_sixteen_bits_keep_their_brightness():
    picture = Image.fromarray(np.full((4, 4), 0x8080, np.uint16))
    for format in ("PNG", "TIFF"):
        assert (decode(save(picture, format)) == 0x80).all()


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, BLUE, RED)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        file = save(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert (decode(file) == RED).all(), format


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_white(format):
    options = {"lossless": True} if format == "WEBP" else {}
    assert (decode(save(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), format, **options)) == 255).all()


def test_a_transparent_colour_of_a_palette_is_white():
    picture = halves().quantize(2)
    transparent = picture.getpixel((0, 0))
    for format in ("GIF", "PNG"):
        image = decode(save(picture, format, transparency=transparent))
        assert (image[:, :8] == 255).all() and (image[:, 8:] != 255).any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(format, orientation):
    """Whichever way the camera was held, the red corner is at the top left."""
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste("red", (0, 0, 8, 8))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(save(stored, format, exif=exif))
    assert image.shape == (16, 32, 3)
    assert image[:6, :6, 1].max() < 60 and image[:, 12:, 1].min() > 200


def test_a_large_jpeg_is_decoded_at_a_fraction_but_looks_the_same():
    picture = Image.effect_noise((1600, 1200), 80).resize((3200, 2400)).convert("RGB")
    file = save(picture, "JPEG", quality=90)
    whole = decode(file)
    file.seek(0)
    part = decode(file, at_least=[150, 200])
    assert whole.shape == (2400, 3200, 3)
    assert part.shape[0] >= 300 and part.shape[1] <= 1600
    size = {"image_size": [150, 200], "channels": 3}
    difference = fit_images([whole], **size).astype(int) - fit_images([part], **size)
    assert abs(difference).mean() < 2


def test_shrinking_averages_what_it_covers():
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[:, ::2] = 200
    small = fit_images(image, image_size=[2, 2], channels=1)
    assert abs(int(small.mean()) - 100) <= 5


def test_grey_becomes_rgb_and_back():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 1), dtype=np.uint8)
    rgb = fit_images(images, image_size=[5, 5], channels=3)
    assert rgb.shape == (3, 5, 5, 3)
    np.testing.assert_array_equal(fit_images(rgb, image_size=[5, 5], channels=1), images)


def test_images_of_several_sizes():
    images = [np.full((height, 9, 3), height, np.uint8) for height in (3, 4, 5)]
    fitted = fit_images(images, image_size=[4, 6], channels=3)
    assert fitted.shape == (3, 4, 6, 3)
    assert [int(image.mean()) for image in fitted] == [3, 4, 5]


def test_the_first_picture_of_a_camera_that_stores_several():
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, BLUE)]
    image = decode(save(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95))
    assert abs(image.astype(int) - RED).max() <= 12


def test_floats_fill_the_range():
    values = np.linspace(-3, 5, 16, dtype=np.float32).reshape(4, 4)
    image = decode(save(Image.fromarray(values), "TIFF"))
    assert image.min() == 0 and image.max() == 255
    values[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded .*no numbers"):
        decode(save(Image.fromarray(values), "TIFF"))


def test_no_other_program_is_started_for_a_file_that_asks_for_one():
    """Pillow gives EPS files, which are programs, to Ghostscript."""
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(ValueError, match="not an image file"):
        decode(io.BytesIO(content))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_undecodable_files_are_named(content):
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(io.BytesIO(content))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file(format):
    content = save(Image.effect_noise((64, 64), 50), format).getvalue()
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(io.BytesIO(content[: len(content) // 2]))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.jpg: no such file"):
        decode(tmp_path / "a.jpg")


def test_a_folder_or_pipe_is_refused_without_waiting_for_it(tmp_path):
    with pytest.raises(ValueError, match=r"^a\.jpg: is a folder; name the image files in it$"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match=r"^a\.jpg: is a pipe or device; name an image file$"):
            decode(path)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_is_let_go_before_the_next_is_decoded(mode):
    """Two of the largest at once would take a worker more memory than it may have."""
    last = None

    def images():
        nonlocal last
        for _ in range(3):
            assert last is None or last() is None
            image = np.zeros((9, 8, 3), np.uint8)
            last = weakref.ref(image)
            yield image
            del image

    fit_images(images(), image_size=[4, 4], channels=3 if mode == "RGB" else 1)


def png_header(width, height):
    """Make a PNG that claims a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">L", 13) + chunk
    return start + struct.pack(">L", zlib.crc32(chunk)) + struct.pack(">L", 0) + b"IDAT"


@pytest.mark.parametrize("size", [(6_401, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_more_pixels_than_any_camera_makes_are_refused_unseen(size):
    with pytest.raises(ValueError, match=r"^a\.jpg: cannot .* \(it has more than 64,000,000 pix"):
        decode(io.BytesIO(png_header(*size)))


def test_what_pillow_thinks_large_is_decoded_without_a_warning(monkeypatch):
    file = save(halves())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings(action="error"):
        assert decode(file).shape == (8, 16, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_no_pixels(size):
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(io.BytesIO(png_header(*size)))
    gif = bytearray(save(halves(), "GIF").getvalue())
    place = gif.index(b"\x2c") + 5  # the frame's width and height
    gif[place : place + 4] = struct.pack("<HH", *size)
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(io.BytesIO(gif))


@pytest.mark.parametrize(
    "error",
    [struct.error("x"), KeyError(1), TypeError(), MemoryError(), ZeroDivisionError(), RecursionError(), IndexError(), RuntimeError("a\nb\x1b[1m"), AssertionError()],
)  # fmt: skip
def test_whatever_a_decoder_raises_is_told_by_the_files_name(monkeypatch, error):
    def load(self):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(
        ValueError, match=r"^a\.jpg: cannot be decoded as an image \(.+\)$"
    ) as caught:
        decode(save(halves()))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40,
    ],
)
def test_malformed_exif_and_icc_are_ignored_as_browsers_do(format, exif):  # fmt: skip
    options = {"lossless": True} if format == "WEBP" else {}
    file = save(halves(), format, exif=exif, icc_profile=b"no profile", **options)
    with warnings.catch_warnings(action="error"):
        image = decode(file)
    assert abs(image[:, :6].astype(int) - RED).max() <= 12


def test_a_text_chunk_that_unpacks_to_a_gigabyte():
    """Pillow must be asked for pixels alone: the text is as large as the sender likes."""
    packed = zlib.compress(bytes(200 << 20))
    content = save(halves()).getvalue()
    chunk = b"zTXt" + b"key\0\0" + packed
    chunk = struct.pack(">L", len(chunk) - 4) + chunk + struct.pack(">L", zlib.crc32(chunk))
    place = content.index(b"IDAT") - 4
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(io.BytesIO(content[:place] + chunk + content[place:]))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "I;16", "F", "CMYK"])
def test_large_images_are_converted_in_strips_that_show_nowhere(monkeypatch, mode):
    values = np.random.default_rng(0).integers(0, 65536, (9, 5))
    picture = Image.fromarray((values >> 8).astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(values.astype(np.uint16))
    elif mode == "P":
        picture = picture.quantize(7)
        picture.info["transparency"] = 3
    else:
        picture = picture.convert(mode)
        if mode.endswith("A"):
            picture.putalpha(Image.fromarray((values % 256).astype(np.uint8)))
    format = "TIFF" if mode in ("F", "CMYK") else "PNG"
    whole = decode(save(picture, format))
    for pixels in (1, 10, 12):
        monkeypatch.setattr(images, "_STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(decode(save(picture, format)), whole)


def test_what_native_code_says_of_a_broken_file_is_not_printed(capfd):
    content = save(halves(), "TIFF", compression="tiff_lzw").getvalue()
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(io.BytesIO(content[:8] + bytes(60) + content[68:]))
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        decode(
            io.BytesIO(
                content.replace(struct.pack("<HHL", 0x0103, 3, 1), b"\x03\x01\xff\xff\1\0\0\0")
            )
        )
    assert capfd.readouterr() == ("", "")


def test_what_pillow_logs_of_a_broken_file_is_not_printed():
    """Without a handler, and so only in a process of its own, Python prints it."""
    content = bytearray(save(halves(), "TIFF").getvalue())
    place = content.index(struct.pack("<HHL", 277, 3, 1)) + 8  # SamplesPerPixel
    content[place : place + 2] = struct.pack("<H", 100)
    program = (
        "import io, sys; from imgpipe.images import decode_image\n"
        "try: decode_image(io.BytesIO(sys.stdin.buffer.read()), 'a.tif')\n"
        "except ValueError as error: print(error)"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, input=content, cwd=ROOT, capture_output=True, check=True)
    assert result.stdout.startswith(b"a.tif: cannot be decoded") and not result.stderr


def test_a_jpeg_of_too_many_scans_is_refused(monkeypatch):
    """Each takes a few bytes in the file and a pass over all pixels."""
    monkeypatch.setattr(costly_images, "_MOST_SCANNED", 50 * 16 * 8)
    content = save(halves(), "JPEG", progressive=True).getvalue()
    start = content.rindex(b"\xff\xda")
    scan, comment = content[start:-2], b"\xff\xfe\x01\x02" + b"\xff\xda" * 128
    many = content[:start] + scan * 60 + content[-2:]
    with pytest.raises(
        ValueError, match=r"^a\.jpg: cannot be decoded as an image \(it has 6\d sca"
    ):
        decode(io.BytesIO(many))
    junk = content[:start] + b"junk".join([scan] * 60) + content[-2:]
    with pytest.raises(ValueError, match="scans"):
        decode(io.BytesIO(junk))
    # The two bytes that begin a scan mean nothing in a comment, or after the end.
    harmless = content[:2] + comment + content[2:] + b"\xff\xda" * 128
    np.testing.assert_array_equal(decode(io.BytesIO(harmless)), decode(io.BytesIO(content)))


def test_exif_that_pillow_fails_on_is_ignored(monkeypatch):
    def getexif(self):
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    assert decode(save(halves())).shape == (8, 16, 3)
