"""A product of matrices, which comes nearest to what the processor can compute."""

import numpy as np


def multiply(lap, size: int):
    """Multiply two float32 matrices of size × size on all cores."""
    left, right = np.random.default_rng(0).random((2, size, size), np.float32)
    product = np.empty_like(left)
    while True:
        np.dot(left, right, out=product)
        lap()
