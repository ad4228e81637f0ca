"""cnn4: four convolutions with batch normalisation, from the Fashion-MNIST article."""

from imgpipe.schema import ThreeShares, TwoShares


def build_model(image_shape, class_count, *, dropout: ThreeShares, dense_dropout: TwoShares):
    """Build the network; 1,221,546 parameters for 28×28×1 and ten classes.

    Args:
        image_shape: (height, width, channels) of the images, uint8.
        class_count: number of classes.
        dropout: share of values dropped at three places among the convolutions.
        dense_dropout: the same after each of the two hidden dense layers.

    Returns:
        An untrained keras.Sequential from images to probabilities (n, class_count).
    """
    from keras import Input, Sequential, layers

    first, second, third = dropout
    fourth, fifth = dense_dropout
    return Sequential(
        [
            Input(image_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(first),
            layers.Conv2D(64, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(second),
            layers.Conv2D(128, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(third),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(fourth),
            layers.Dense(128, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(fifth),
            layers.Dense(class_count, activation="softmax"),
        ]
    )
