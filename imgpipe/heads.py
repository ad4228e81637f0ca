"""The head: a small classifier on the features of a frozen backbone."""

from imgpipe.schema import Count, Share


def build_head(
    feature_shape,
    class_count,
    *,
    standardize: bool,
    hidden_units: Count | None,
    dropout: Share,
):
    """Build the classifier.

    Args:
        feature_shape: (feature_dim,) of the features, float16.
        class_count: number of classes.
        standardize: bring each feature to mean 0 and variance 1 over the training images; the
            means and variances are learnt by the layer's `adapt` before training.
        hidden_units: width of the hidden layer, or None for no hidden layer.
        dropout: share of values dropped before the last layer.

    Returns:
        An untrained keras.Sequential from features to probabilities (n, class_count).
    """
    from keras import Input, Sequential, layers

    model = Sequential([Input(feature_shape, dtype="float16")])
    if standardize:
        model.add(layers.Normalization())
    if hidden_units:
        model.add(layers.Dense(hidden_units, activation="relu"))
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(class_count, activation="softmax"))
    return model
