"""imgpipe.footprint: the largest layer counts, wherever it stands, and bounds what passes at once."""

import keras
import pytest

from imgpipe.footprint import choose_input_count, count_largest_output

LAYERS = [keras.layers.Conv2D(3, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]


@pytest.mark.parametrize("nested", [False, True])
def test_the_largest_layer_counts(nested):
    layers = [keras.Sequential(LAYERS)] if nested else LAYERS
    assert count_largest_output(keras.Sequential([keras.Input((10, 10, 1)), *layers])) == 8 * 8 * 3


def test_each_use_of_a_layer_counts():
    grow, image = keras.layers.UpSampling2D(10), keras.Input((10, 10, 1))
    model = keras.Model(image, keras.layers.GlobalMaxPooling2D()(grow(grow(image))))
    assert count_largest_output(model) == 1000 * 1000


@pytest.mark.parametrize(("side", "count"), [(28, 1024), (702, 45), (8194, 1)])
def test_photographs_pass_a_few_at_a_time_where_small_pictures_pass_by_the_thousand(side, count):
    layers = [keras.Input((side, side, 1)), keras.layers.Conv2D(3, 3)]
    assert choose_input_count(keras.Sequential(layers)) == count
