"""cifar_cnn: three convolutions for small colour pictures, from the CIFAR-10 article."""

from imgpipe.schema import Share


def build_model(image_shape, class_count, *, dropout: Share | None):
    """Build the network; 122,570 parameters for 32×32×3 and ten classes.

    Args:
        image_shape: (height, width, channels) of the images, uint8.
        class_count: number of classes.
        dropout: share of values dropped after the last convolution, or None for no such layer.

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
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            *([] if dropout is None else [layers.Dropout(dropout)]),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
