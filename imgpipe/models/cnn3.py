"""cnn3: three convolutions, from the Fashion-MNIST article."""

from imgpipe.schema import Share, ThreeShares


def build_model(image_shape, class_count, *, dropout: ThreeShares, dense_dropout: Share):
    """Build the network; 241,546 parameters for 28×28×1 and ten classes.

    Args:
        image_shape: (height, width, channels) of the images, uint8.
        class_count: number of classes.
        dropout: share of values dropped after each of the three convolutions.
        dense_dropout: the same after the hidden dense layer.

    Returns:
        An untrained keras.Sequential from images to probabilities (n, class_count).
    """
    from keras import Input, Sequential, layers

    first, second, third = dropout
    return Sequential(
        [
            Input(image_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(first),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(second),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Dropout(third),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(dense_dropout),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
