"""sneaker_cnn: three convolutions for photographs, from the sneaker article."""

from typing import Literal

from imgpipe.schema import TwoShares


def build_model(
    image_shape, class_count, *, pooling: Literal["average", "max"], dropout: TwoShares
):
    """Build the network; 22,175,138 parameters for 224×224×3 and two classes.

    Args:
        image_shape: (height, width, channels) of the images, uint8.
        class_count: number of classes.
        pooling: kind of the first pooling; the second takes the maximum.
        dropout: share of values dropped after the second pooling and the last convolution.

    Returns:
        An untrained keras.Sequential from images to probabilities (n, class_count).
    """
    from keras import Input, Sequential, layers

    first, second = dropout
    pool = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}[pooling]
    return Sequential(
        [
            Input(image_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, activation="relu"),
            pool(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(first),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Dropout(second),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
