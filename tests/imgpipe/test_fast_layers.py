"""imgpipe.fast_layers: in training the same functions as Keras's own layers, elsewhere those."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import Input, Sequential, layers

from imgpipe.fast_layers import speed_up
from imgpipe.optimizers import OnePassAdam

IMAGES = np.random.default_rng(0).normal(size=(8, 11, 9, 18)).astype(np.float32)
LABELS = np.arange(8) % 3


def build(*middle, shape=IMAGES.shape[1:], dtype="float32"):
    keras.utils.set_random_seed(3)
    return Sequential([Input(shape, dtype=dtype), *middle, layers.Flatten(), layers.Dense(3)])


def differentiate(model, inputs=IMAGES):
    """Compute the loss in training, and its gradient by inputs and weights."""
    inputs = tf.convert_to_tensor(inputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(LABELS, model(inputs, training=True))
    return value, tape.gradient(value, [inputs, *model.trainable_weights])


def assert_same_in_training(model, inputs=IMAGES):
    """Compare loss and gradients, computed in a graph, with those of Keras's layers."""
    value, gradients = differentiate(model, inputs)
    fast_value, fast_gradients = tf.function(differentiate)(speed_up(model, inputs), inputs)
    np.testing.assert_allclose(fast_value, value, rtol=1e-5)
    for ours, plain in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5 * np.abs(plain).max())


def is_fast(model):
    return [layer.__class__.__name__ == "_InTraining" for layer in speed_up(model, IMAGES).layers][
        :-2
    ]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("channels", "outputs"), [(18, 16), (18, 37), (1, 5), (3, 40)])
def test_convolutions_have_the_gradients_that_keras_computes(padding, channels, outputs):
    images = IMAGES[..., :channels]
    model = build(
        layers.Conv2D(outputs, 3, padding=padding, activation="relu"), shape=images.shape[1:]
    )
    assert is_fast(model) == [True]
    assert_same_in_training(model, images)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("channels", "outputs"), [(18, 37), (1, 32)])
def test_a_convolution_pools_at_once_what_is_only_pooled(padding, channels, outputs):
    images = IMAGES[..., :channels]
    model = build(
        layers.Conv2D(outputs, 3, padding=padding, activation="relu"),
        layers.MaxPooling2D(),
        shape=images.shape[1:],
    )
    assert is_fast(model) == [True, True]
    assert_same_in_training(model, images)
    fast = speed_up(model, IMAGES)
    np.testing.assert_array_equal(fast(images, training=False), model(images, training=False))


@pytest.mark.parametrize(("channels", "outputs"), [(18, 37), (1, 32)])
def test_of_what_is_pooled_a_share_is_dropped_at_once(channels, outputs):
    images, dropout = IMAGES[..., :channels], layers.Dropout(0.4)
    convolution, pooling = layers.Conv2D(outputs, 3, activation="relu"), layers.MaxPooling2D()
    model = build(convolution, pooling, dropout, shape=images.shape[1:])
    assert is_fast(model) == [True] * 3
    fast = speed_up(model, images)
    seed = dropout.seed_generator.state.numpy()
    pooled, dropped = pooling(convolution(images)).numpy(), images
    for layer in fast.layers[:3]:
        dropped = layer(dropped, training=True)
    factors = np.where((pooled > 0) & (dropped == 0), 0, 1 / (1 - 0.4))
    np.testing.assert_allclose(dropped, pooled * factors, rtol=2e-4, atol=1e-5)
    assert abs((factors[pooled > 0] == 0).mean() - 0.4) < 0.06
    dropout.seed_generator.state.assign(seed)
    value, gradients = differentiate(fast, images)
    plain = Sequential([*model.layers[:2], layers.Lambda(lambda x: x * factors), *model.layers[3:]])
    expected, expected_gradients = differentiate(plain, images)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for ours, keras_own in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=2e-4 * np.abs(keras_own).max())


@pytest.mark.parametrize(
    "pooling",
    [
        layers.MaxPooling2D(3),
        layers.MaxPooling2D(2, strides=1),
        layers.MaxPooling2D(padding="same"),
        layers.AveragePooling2D(2),
    ],
    ids=["of three", "overlapping", "padded", "average"],
)
def test_other_pooling_stays_with_keras(pooling):
    model = build(layers.Conv2D(16, 3, activation="relu"), pooling)
    assert is_fast(model) == [True, False]
    value, _ = differentiate(model)
    fast_value, _ = differentiate(speed_up(model, IMAGES))
    np.testing.assert_allclose(fast_value, value, rtol=1e-5)


def test_maps_that_more_than_a_pooling_takes_are_not_pooled_at_once():
    inputs = Input(IMAGES.shape[1:])
    maps = layers.Conv2D(16, 3, activation="relu")(inputs)
    taken = [layers.Flatten()(layers.MaxPooling2D()(maps)), layers.Flatten()(maps)]
    model = keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(taken)))
    assert_same_in_training(model)


@pytest.mark.parametrize("shape", [(11, 9, 18), (30,)])
def test_batch_normalisation_is_that_of_keras(shape):
    inputs = np.random.default_rng(1).normal(2, 3, size=(8, *shape)).astype(np.float32)
    model = build(layers.BatchNormalization(momentum=0.9), shape=shape)
    assert is_fast(model) == [True]
    first_weights = model.get_weights()
    value, gradients = differentiate(model, inputs)
    weights = model.get_weights()
    model.set_weights(first_weights)
    fast_value, fast_gradients = differentiate(speed_up(model, IMAGES), inputs)
    np.testing.assert_allclose(fast_value, value, rtol=1e-5)
    for ours, plain in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-4 * np.abs(plain).max())
    for ours, plain in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    keras.utils.set_random_seed(5)
    model = speed_up(Sequential([Input((100_001,)), layers.Dropout(rate)]), IMAGES)
    ones = np.ones((3, 100_001), np.float32)
    first, second = (model(ones, training=True).numpy() for _ in range(2))
    for values in (first, second):
        np.testing.assert_allclose((values == 0).mean(axis=1), rate, atol=0.006)  # four sigmas
        np.testing.assert_allclose(values[values > 0], 1 / (1 - rate), rtol=1e-4)
    assert (first != second).mean() > 0.01
    assert (first[0] != first[1]).mean() > 0.01
    keras.utils.set_random_seed(5)
    again = speed_up(Sequential([Input((100_001,)), layers.Dropout(rate)]), IMAGES)
    np.testing.assert_array_equal(again(ones, training=True), first)


def test_outside_training_the_layers_are_the_models_own():
    model = build(
        layers.Conv2D(16, 3, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5)
    )
    assert is_fast(model) == [True] * 3
    fast = speed_up(model, IMAGES)
    np.testing.assert_array_equal(fast(IMAGES, training=False), model(IMAGES, training=False))
    assert all(a is b for a, b in zip(fast.weights, model.weights, strict=True))
    assert "_InTraining" not in model.to_json()


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(16, 3),
        layers.Conv2D(16, 3, activation="tanh"),
        layers.Conv2D(16, 3, activation="relu", strides=2),
        layers.Conv2D(16, 3, activation="relu", use_bias=False),
        layers.Conv2D(16, 5, activation="relu"),
        layers.Conv2D(18, 3, activation="relu", groups=2),
        layers.Conv2D(8, 3, activation="relu"),
        layers.Conv2D(16, 3, activation="relu", dtype="mixed_bfloat16"),
        layers.BatchNormalization(axis=1),
        layers.BatchNormalization(scale=False),
        layers.Dropout(0.5, noise_shape=(None, 1, 1, 18)),
        layers.Dropout(0.0),
        layers.SpatialDropout2D(0.5),
    ],
    ids=lambda layer: layer.name,
)
def test_what_is_computed_in_another_way_stays_with_keras(layer):
    assert is_fast(build(layer)) == [False]


def test_a_frozen_normalisation_keeps_its_statistics():
    model = build(layers.BatchNormalization(trainable=False))
    before = model.get_weights()
    outputs = speed_up(model, IMAGES)(IMAGES, training=True)
    np.testing.assert_array_equal(outputs, model(IMAGES, training=False))
    for ours, earlier in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, earlier)


def test_a_model_with_branches():
    inputs = Input(IMAGES.shape[1:])
    one, other = (layers.Conv2D(16, 3, activation="relu")(inputs) for _ in range(2))
    maps = layers.Dropout(0.5)(layers.Add()([one, other]))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(maps)))
    kinds = [type(layer).__name__ for layer in speed_up(model, IMAGES).layers]
    assert kinds.count("_InTraining") == 3
    _, gradients = differentiate(speed_up(model, IMAGES))
    assert all(gradient is not None for gradient in gradients)


FEATURES = np.maximum(np.random.default_rng(2).normal(-1, 1, (8, 90)), 0).astype(np.float16)


def build_head(*middle, shape=FEATURES.shape[1:], dtype="float16"):
    return build(*middle, shape=shape, dtype=dtype)


@pytest.mark.parametrize("units", [64, 100])
def test_a_dense_layer_on_features_that_are_mostly_zeros(units):
    model = build_head(layers.Dense(units, "relu", bias_initializer="random_normal"))
    fast = speed_up(model, FEATURES)
    assert type(fast.layers[0]).__name__ == "_InTraining"
    value, (_, *gradients) = differentiate(model, FEATURES)
    fast_value, (_, *fast_gradients) = tf.function(differentiate)(fast, FEATURES)
    np.testing.assert_allclose(fast_value, value, rtol=1e-5)
    for ours, plain in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5 * np.abs(plain).max())
    np.testing.assert_array_equal(fast(FEATURES, training=False), model(FEATURES, training=False))


def train(model, optimizer, *, fast):
    """Train for three steps, and for three more with another kernel; return all variables."""
    optimizer.build(model.trainable_variables)
    trained = speed_up(model, FEATURES, optimizer) if fast else model
    trained.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trained.fit(FEATURES, LABELS, epochs=3, shuffle=False, verbose=0)
    earlier = model.get_weights()
    values = [values.copy() for values in earlier]
    model.layers[0].kernel.assign(values[0][::-1])
    trained.fit(FEATURES, LABELS, epochs=3, shuffle=False, verbose=0)
    for kept, value in zip(earlier, values, strict=True):
        np.testing.assert_array_equal(kept, value)
    return [np.array(v) for v in (*model.variables, *optimizer.variables)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 5.0},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)},
    ],
    ids=["plain", "with decay", "with a schedule"],
)
@pytest.mark.parametrize("regularizer", [None, "l2"])
def test_adam_moves_its_weights_as_that_of_keras_does(settings, regularizer):
    ends = []
    for optimizer in (OnePassAdam(**settings), keras.optimizers.Adam(**settings)):
        keras.utils.set_random_seed(3)  # of the initial weights
        model = build_head(
            layers.Dense(64, "relu", kernel_regularizer=regularizer, bias_initializer="ones")
        )
        ends.append(train(model, optimizer, fast=isinstance(optimizer, OnePassAdam)))
    for ours, keras_own in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-3, atol=1e-5)


def test_of_what_it_gives_a_share_is_dropped_at_once():
    dense, dropout = layers.Dense(200, "relu"), layers.Dropout(0.4)
    model = build_head(dense, dropout)
    fast = speed_up(model, FEATURES)
    assert [type(layer).__name__ for layer in fast.layers[:2]] == ["_InTraining"] * 2
    seed = dropout.seed_generator.state.numpy()
    plain_outputs = dense(FEATURES).numpy()
    dropped = fast.layers[1](fast.layers[0](FEATURES, training=True), training=True)
    factors = np.where((plain_outputs > 0) & (dropped == 0), 0, 1 / (1 - 0.4))
    np.testing.assert_allclose(dropped, plain_outputs * factors, rtol=2e-4, atol=1e-5)
    assert abs((factors[plain_outputs > 0] == 0).mean() - 0.4) < 0.06
    dropout.seed_generator.state.assign(seed)
    value, (_, *gradients) = differentiate(fast, FEATURES)
    plain = Sequential([dense, layers.Lambda(lambda x: x * factors), *model.layers[2:]])
    expected, (_, *expected_gradients) = differentiate(plain, FEATURES)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for ours, keras_own in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=2e-4 * np.abs(keras_own).max())


@pytest.mark.parametrize(
    ("middle", "inputs"),
    [
        ([layers.Dense(64, "relu")], FEATURES + 1),
        ([layers.Dense(10, "relu")], FEATURES),
        ([layers.Dense(64, "relu", use_bias=False)], FEATURES),
        ([layers.Dense(64)], FEATURES),
        ([layers.Normalization(mean=0, variance=1), layers.Dense(64, "relu")], FEATURES),
        ([layers.Dense(64, "relu")], FEATURES.reshape(8, 9, 10)),
        ([layers.Dense(64, "relu")], FEATURES.astype(np.float32)),
    ],
    ids=[
        "few zeros",
        "few units",
        "no bias",
        "no relu",
        "not the first layer",
        "of three axes",
        "of single precision",
    ],
)
def test_other_dense_layers_stay_with_keras(middle, inputs):
    model = build_head(*middle, shape=inputs.shape[1:], dtype=inputs.dtype.name)
    assert "_InTraining" not in {type(layer).__name__ for layer in speed_up(model, inputs).layers}
