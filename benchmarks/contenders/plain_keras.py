"""Keras as its guides and the articles use it: TensorFlow's own settings, nothing of imgpipe's."""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.networks import CLASSES, read_plan

EPOCHS = 1_000_000  # until the process is ended
BATCH_SIZE = 256


def save_random_weights(lap, path: str):
    """Write a weights file for VGG16 without its top, whose values neither vanish nor explode.

    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2.
    """
    network = keras.applications.VGG16(weights=None, include_top=False)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if weights := layer.get_weights():
            kernel, bias = (rng.standard_normal(array.shape) for array in weights)
            scale = np.sqrt(2 / np.prod(kernel.shape[:3]))
            layer.set_weights([scale * kernel, 0.1 * bias])
    network.save_weights(path)
    lap()


def predict_features(lap, rgb: str, grey: str, weights: str, checked: int):
    """Run VGG16 by `model.predict`, 32 images at once, all scaled and in memory.

    The answer has the features of the first `checked` images, of more kinds than are timed.

    Args:
        lap: see benchmarks.contenders.
        rgb: a .npy file, uint8 (n, size, size, 3).
        grey: the same, (n, height, width, 1).
        weights: a weights file.
        checked: how many images.
    """
    pixels = np.load(rgb)
    network, pixels = _load_vgg(pixels.shape[1], weights), _scale(pixels)
    small = np.load(grey)[:checked].astype("float32")
    resized = tf.image.resize(small, pixels.shape[1:3], antialias=True).numpy()
    partial = keras.Model(network.input, network.get_layer("block3_pool").output)

    def predict(model, images):
        return model.predict(images, batch_size=32, verbose=0)

    answer = {
        "rgb": predict(network, pixels[:checked]).reshape(checked, -1),
        "grey": predict(network, _scale(np.repeat(resized, 3, 3))).reshape(checked, -1),
        "partial": predict(partial, pixels[:checked]).mean(axis=(1, 2)),
    }
    predict(network, pixels)
    lap(answer)
    while True:
        predict(network, pixels)
        lap()


def call_features(lap, rgb: str, weights: str):
    """Run VGG16 as a tf.function; arguments as in predict_features."""
    pixels = np.load(rgb)
    network, pixels = _load_vgg(pixels.shape[1], weights), _scale(pixels)
    signature = [tf.TensorSpec((None, *pixels.shape[1:]), tf.float32)]
    compute = tf.function(lambda images: network(images, training=False), signature)
    while True:
        for start in range(0, len(pixels), 32):
            compute(tf.constant(pixels[start : start + 32])).numpy()
        lap()


def train(lap, network: str, inputs: str, labels: str, xla: bool):
    """Train by `fit` on float32 arrays in memory with labels written out one-hot.

    A lap is an epoch without its first step. Before that one TensorFlow ends the stream of the last
    epoch, for which it may wait as long as the others' laps took.

    Args:
        lap: see benchmarks.contenders.
        network: name in benchmarks.networks.
        inputs: a .npy file, uint8 images or float16 features.
        labels: a .npy file, integers.
        xla: whether XLA compiles the step, as Keras lets it by default.
    """
    values = np.load(inputs)
    values = values.astype("float32") / (255 if values.dtype == np.uint8 else 1)
    model = build_network(network, values.shape[1:])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit_compile=xla)
    model.fit(
        values,
        keras.utils.to_categorical(np.load(labels), CLASSES),
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: batch or lap.restart(),
                on_epoch_end=lambda *_: lap(),
            )
        ],
    )


def predict_singly(lap, network: str, images: str):
    """Classify one image after the other by `model.predict`."""
    pixels = np.load(images).astype("float32") / 255
    model = build_network(network, pixels.shape[1:])
    while True:
        for number in range(len(pixels)):
            model.predict(pixels[number : number + 1], verbose=0)
        lap()


def build_network(network: str, shape: tuple) -> keras.Model:
    """Build a network of benchmarks.networks for float32 inputs of a shape."""
    layers = keras.layers
    kinds = {
        "conv": lambda width: layers.Conv2D(int(width), 3, activation="relu"),
        "norm": lambda _: layers.BatchNormalization(),
        "pool": lambda _: layers.MaxPooling2D(),
        "drop": layers.Dropout,
        "flatten": lambda _: layers.Flatten(),
        "dense": lambda width: layers.Dense(int(width), activation="relu"),
    }
    middle = [kinds[kind](number) for kind, number in read_plan(network)]
    last = layers.Dense(CLASSES, activation="softmax")
    return keras.Sequential([keras.Input(shape), *middle, last])


def _load_vgg(size: int, weights: str) -> keras.Model:
    shape = (size, size, 3)
    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=shape)
    network.load_weights(weights)
    return network


def _scale(pixels: np.ndarray) -> np.ndarray:
    return keras.applications.vgg16.preprocess_input(pixels.astype("float32"))
