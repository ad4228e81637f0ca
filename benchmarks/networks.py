"""The networks that are measured, written down for every framework alike."""

# A word is a layer: conv32 a 3×3 convolution without padding to 32 channels, with ReLU; norm a
# batch normalisation; pool the largest of 2×2; drop0.25 a dropout; dense128 a dense layer with
# ReLU. A dense layer to the classes ends each.
_PLANS = {
    "cnn1": "conv32 pool drop0.2 flatten dense128",
    "cnn3": ("conv32 pool drop0.25 conv64 pool drop0.25 conv128 drop0.4 flatten dense128 drop0.3"),
    "cnn4": (
        "conv32 norm conv32 norm pool drop0.25 conv64 norm drop0.25 conv128 norm pool drop0.25 "
        "flatten dense512 norm drop0.5 dense128 norm drop0.5"
    ),
    "head": "dense512 drop0.5",
}
CLASSES = 10

# Widths of VGG16's convolutions, padded to keep the size; None for the largest of 2×2.
# Source: Simonyan & Zisserman 2015, table 1, column D.
VGG16 = (
    *(64, 64, None),
    *(128, 128, None),
    *(256, 256, 256, None),
    *(512, 512, 512, None),
    *(512, 512, 512, None),
)


def read_plan(name: str) -> list[tuple[str, float]]:
    """List a network's layers: kind, and the number that belongs to it, or 0."""
    words = _PLANS[name].split()
    kinds = [word.rstrip("0123456789.") for word in words]
    return [(kind, float(word[len(kind) :] or 0)) for kind, word in zip(kinds, words, strict=True)]


def count_multiply_adds(size: int) -> int:
    """Count the multiply-adds of VGG16's convolutions for one image of size × size, done directly.

    Args:
        size: height and width in pixels.
    """
    total, channels = 0, 3
    for width in VGG16:
        if width is None:
            size //= 2
        else:
            total += size * size * 9 * channels * width
            channels = width
    return total
