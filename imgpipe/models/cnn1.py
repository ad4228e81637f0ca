"""cnn1: one convolution, the smallest network of the Fashion-MNIST article."""

from imgpipe.schema import Share


def build_model(image_shape, class_count, *, dropout: Share):
    """Build the network; 693,962 parameters for 28×28×1 and ten classes.

    Args:
        image_shape: (height, width, channels) of the images, uint8.
        class_count: number of classes.
        dropout: share of values dropped after the pooling.

    Returns:
        An untrained keras.Sequential from images to probabilities (n, class_count).
    """
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(image_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(dropout),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
