"""mpox_cnn: four convolutions for photographs of skin, from the monkeypox article."""

from typing import Literal

from imgpipe.schema import ThreeShares


def build_model(
    image_shape, class_count, *, pooling: Literal["average", "max"], dropout: ThreeShares
):
    """Build the network; 22,249,378 parameters for 240×240×3 and two classes.

    Args:
        image_shape: (height, width, channels) of the images, uint8.
        class_count: number of classes.
        pooling: kind of the three poolings.
        dropout: share of values dropped after the second pooling, the third, and the last
            convolution.

    Returns:
        An untrained keras.Sequential from images to probabilities (n, class_count).
    """
    from keras import Input, Sequential, layers

    first, second, third = dropout
    pool = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}[pooling]
    return Sequential(
        [
            Input(image_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, activation="relu"),
            pool(2),
            layers.Conv2D(32, 3, activation="relu"),
            pool(2),
            layers.Dropout(first),
            layers.Conv2D(64, 3, activation="relu"),
            pool(2),
            layers.Dropout(second),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Dropout(third),
            layers.Flatten(),
            layers.Dense(256, activation="sigmoid"),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
