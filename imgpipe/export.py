"""A trained model as one network in a format that runs without this project."""

import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from imgpipe.arrays import blocks
from imgpipe.backbones import build_backbone
from imgpipe.contract import Contract
from imgpipe.trained import TrainedModel, predict_probabilities
from imgpipe.wording import shorten, word_error

INPUT, OUTPUT = "images", "probabilities"
DESCRIPTION = "export.json"  # stands beside each exported model, and in it
_METADATA_KEY = "imgpipe"  # of the description in an ONNX file
_OPSET = 17  # of ONNX; onnxruntime knows it since 1.12, of 2022
# How far probabilities may lie from Keras's in float32, in which sums are formed in other orders;
# and from those of a model with a backbone as it was trained, by the backbone's precision: such a
# model rounds features to float16, and bfloat16 has but eight bits. Seen: 2e-5, 0.013 and 0.15.
TOLERANCE = 1e-4
ROUNDING_TOLERANCES = {"float32": 0.05, "bfloat16": 0.25}
# A head that standardises divides a feature by its deviation, which may be next to nothing: images
# that may lie further off because of rounding.
_ROUNDING_OUTLIERS = 0.02
_LARGEST_FEATURE = float(np.finfo(np.float16).max)
_BATCH_IMAGES = 32
_MOST_COMPARED, _LEAST_COMPARED = 1000, 50  # images
_MULTIPLY_ADDS = 1_500_000_000_000  # that comparing may take; half a minute on two cores


@dataclass(frozen=True)
class Comparison:
    """How an exported network compares with the model that it was made of.

    Attributes:
        images: compared.
        other_classes: images whose most probable class differs.
        largest_difference: of any probability.
        tolerance: the difference allowed; with a backbone, for all images but a few.
    """

    images: int
    other_classes: int
    largest_difference: float
    tolerance: float


def join_network(trained: TrainedModel) -> keras.Model:
    """Join all that stands between images and probabilities into one network of float32.

    Resizing becomes two products with constant matrices, as not every format has a resizing that
    averages; a backbone that computes in bfloat16 computes in float32; features are not rounded
    to float16, but end at its largest value.

    Returns:
        A keras.Model from uint8 (n, height, width, channels), any n, to {OUTPUT: float32
        (n, classes)}.
    """
    contract = trained.contract
    images = keras.Input((*contract.image_size, contract.channels), dtype="uint8", name=INPUT)
    if trained.backbone is None:
        return keras.Model(images, {OUTPUT: trained.model(images)})
    backbone, head = _use_float32(trained)
    (resizing,) = (x for x in backbone.layers if isinstance(x, keras.layers.Resizing))
    features = keras.Model(resizing.output, backbone.output)(_resize(images, resizing))
    features = ops.clip(features, -_LARGEST_FEATURE, _LARGEST_FEATURE)
    return keras.Model(images, {OUTPUT: head(features)})


def _use_float32(trained: TrainedModel) -> tuple[keras.Model, keras.Model]:
    """Copy a backbone and its head so that both compute in float32, and nothing is rounded."""
    settings = trained.contract.backbone.model_copy(update={"precision": "float32"})
    backbone = build_backbone(settings, trained.contract.channels)
    backbone.set_weights(trained.backbone.get_weights())
    head = keras.models.clone_model(
        keras.Model(trained.model.inputs[0], trained.model.outputs[0]),
        input_tensors=keras.Input(trained.model.input_shape[1:], dtype="float32"),
        clone_function=lambda layer: layer,
    )
    return backbone, head


def _resize(images, resizing: keras.layers.Resizing):
    """Do what a layer does to images of one size by multiplying with matrices."""
    _, height, width, channels = images.shape
    rows = _build_resizing_matrix(resizing, height, resizing.height)
    columns = _build_resizing_matrix(resizing, width, resizing.width)
    x = ops.reshape(ops.cast(images, "float32"), (-1, height, width * channels))
    x = ops.reshape(ops.matmul(rows, x), (-1, resizing.height, width, channels))
    return ops.matmul(columns, x)


def _build_resizing_matrix(resizing: keras.layers.Resizing, size: int, target: int) -> np.ndarray:
    """Build the float32 (target, size) that resizes a column of `size` pixels.

    Resizing is linear and treats rows and columns apart: what the layer makes of the columns of
    the identity are those of its matrix.
    """
    layer = type(resizing).from_config(resizing.get_config() | {"height": target, "width": size})
    return np.asarray(layer(np.eye(size, dtype=np.float32)[np.newaxis, ..., np.newaxis]))[0, ..., 0]


def describe_export(contract: Contract) -> dict:
    """Say in plain JSON what goes into an exported network and what comes out."""
    height, width = contract.image_size
    colours = (
        "weigh it to grey (0.299 R + 0.587 G + 0.114 B)"
        if contract.channels == 1
        else "make it RGB"
    )
    return {
        "dataset": contract.dataset,
        "model": contract.model,
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": ["n", height, width, contract.channels],
            "preparation": "turn the picture upright by its EXIF orientation, put transparent "
            f"parts on white, {colours}, stretch it to {height} rows of {width} pixels (bilinear, "
            "averaging when it shrinks, as Pillow does); values 0 to 255 go in as they are, "
            "scaling is part of the network",
        },
        "output": {
            "name": OUTPUT,
            "type": "float32",
            "shape": ["n", len(contract.class_names)],
            "meaning": "probabilities, in the order of class_names",
        },
        "class_names": contract.class_names,
    }


def write_network(format: str, network: keras.Model, folder: Path, description: dict) -> Path:
    """Convert a network and write it into an existing folder.

    Args:
        format: one of FORMATS.
        network: as join_network makes it.
        folder: where it goes.
        description: as describe_export makes it; put into the file where the format has a place.

    Returns:
        The file, or for a SavedModel the folder.

    Raises:
        ValueError: the network has a part that the format has not.
    """
    path = folder / FORMATS[format].file
    text = json.dumps(description, ensure_ascii=False)
    try:
        FORMATS[format].write(network, path, text)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # converters raise whatever there is
        raise ValueError(
            f"the network cannot be converted to {format} ({word_error(error)}); try another "
            f"format: {', '.join(FORMATS)}"
        ) from error
    return path


def choose_images(images: np.ndarray, multiply_adds: int) -> np.ndarray:
    """Choose images to compare on, evenly spread: 1,000, or fewer for a network that is slow.

    Args:
        images: (n, ...), may be a memory map.
        multiply_adds: of the network, on one image.
    """
    affordable = max(_LEAST_COMPARED, _MULTIPLY_ADDS // max(1, multiply_adds))
    count = min(len(images), _MOST_COMPARED, affordable)
    return images[np.linspace(0, len(images) - 1, count).astype(int)]


def run_export(format: str, path: Path, images: np.ndarray) -> np.ndarray:
    """Run an exported network in its format's own runtime, first on one image alone.

    Args:
        format: one of FORMATS.
        path: as write_network gave it.
        images: uint8 (n, height, width, channels), one or more.

    Returns:
        (n, classes), probabilities.
    """
    compute = FORMATS[format].open(path)
    first = compute(images[:1])  # alone: a format must take any number
    rest = [compute(images[1:][part]) for part in blocks(len(images) - 1, _BATCH_IMAGES)]
    return np.concatenate([first, *rest])


def compare_export(exported: np.ndarray, trained: TrainedModel, images: np.ndarray) -> Comparison:
    """Compare what an exported network gave with what the trained model gives.

    Args:
        exported: as run_export gave it.
        trained: that the network was made of; with a backbone, it is run twice: in float32
            throughout, and as it was trained.
        images: that `exported` was computed from.

    Returns:
        How far the exported network lies from the trained model.

    Raises:
        ValueError: further than TOLERANCE or ROUNDING_TOLERANCES allow.
    """
    if trained.backbone is None:
        return _compare(exported, trained.predict(images), TOLERANCE)
    backbone, head = _use_float32(trained)
    features = backbone.predict(images, batch_size=_BATCH_IMAGES, verbose=0)
    features = features.clip(-_LARGEST_FEATURE, _LARGEST_FEATURE)
    _compare(exported, predict_probabilities(head, features), TOLERANCE)
    tolerance = ROUNDING_TOLERANCES[trained.contract.backbone.precision]
    return _compare(exported, trained.predict(images), tolerance, _ROUNDING_OUTLIERS)


def _compare(
    exported: np.ndarray, expected: np.ndarray, tolerance: float, outliers: float = 0
) -> Comparison:
    """Compare probabilities, of which a share of the images may differ by more than `tolerance`."""
    if exported.shape != expected.shape or exported.dtype != expected.dtype:
        raise ValueError(
            f"the exported network gives {exported.dtype} {exported.shape} where the model gives "
            f"{expected.dtype} {expected.shape}; nothing was kept"
        )
    differences = np.abs(exported - expected).max(axis=1)
    others = int((exported.argmax(1) != expected.argmax(1)).sum())
    near = (differences <= tolerance).sum()  # what is no number is not
    if near < (1 - outliers) * len(exported):
        raise ValueError(
            f"the exported network's probabilities differ from the model's by up to "
            f"{differences.max():.1e} where {tolerance:g} is allowed, and its class for "
            f"{others:,} of {len(exported):,} test images; nothing was kept, try another format"
        )
    return Comparison(len(exported), others, float(differences.max()), tolerance)


def _write_onnx(network: keras.Model, path: Path, description: str) -> None:
    import onnx
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Given the function itself, as Keras's own export does, tf2onnx makes the constants of
    # normalisation layers further inputs; frozen before, they stay constants.
    frozen = convert_variables_to_constants_v2(_trace(network).get_concrete_function())
    (source,), (result,) = frozen.inputs, frozen.outputs
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name=network.name,
        input_names=[source.name],
        output_names=[result.name],
        opset=_OPSET,
        tensors_to_rename={source.name: INPUT, result.name: OUTPUT},
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.helper.set_model_props(model, {_METADATA_KEY: description})
    onnx.save_model(model, path)


def _write_tflite(network: keras.Model, path: Path, description: str) -> None:
    # TensorFlow's own operations, which Keras would allow, are not in every interpreter.
    operations = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    network.export(path, format="litert", verbose=False, target_spec=operations)
    # Readers of the model ignore what follows it, and readers of a zip archive what stands before.
    # Source: TensorFlow Lite's metadata format, "associated files".
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION), description)


def _write_saved_model(network: keras.Model, path: Path, _: str) -> None:
    # Keras's own export stores each weight twice.
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.serve = _trace(network)
    tf.saved_model.save(module, path, signatures=module.serve)


def _trace(network: keras.Model) -> tf.types.experimental.PolymorphicFunction:
    """Make a function of TensorFlow of a network, for any number of images."""
    batch = tf.TensorSpec((None, *network.input_shape[1:]), tf.uint8, INPUT)
    return tf.function(lambda images: network(images, training=False), input_signature=[batch])


def _open_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _open_tflite(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    with warnings.catch_warnings(action="ignore"):  # the class will move to another package
        interpreter = tf.lite.Interpreter(str(path))
    runner = interpreter.get_signature_runner()
    return lambda images: runner(**{INPUT: images})[OUTPUT]


def _open_saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    network = tf.saved_model.load(path)
    return lambda images: network.serve(images)[OUTPUT].numpy()


@dataclass(frozen=True)
class _Format:
    file: str  # its name, "." for the folder itself
    write: Callable[[keras.Model, Path, str], None]
    open: Callable[[Path], Callable[[np.ndarray], np.ndarray]]  # in the format's own runtime
    runtime: str  # as one imports it
    usage: str  # Python that gives `probabilities` of `images`


FORMATS = {
    "onnx": _Format(
        "model.onnx",
        _write_onnx,
        _open_onnx,
        "import onnxruntime",
        """\
session = onnxruntime.InferenceSession("model.onnx")
probabilities = session.run(["probabilities"], {"images": images})[0]""",
    ),
    "tflite": _Format(
        "model.tflite",
        _write_tflite,
        _open_tflite,
        "import tensorflow as tf",
        """\
interpreter = tf.lite.Interpreter("model.tflite")
probabilities = interpreter.get_signature_runner()(images=images)["probabilities"]""",
    ),
    "saved_model": _Format(
        ".",
        _write_saved_model,
        _open_saved_model,
        "import tensorflow as tf",
        """\
network = tf.saved_model.load(".")
probabilities = network.serve(images)["probabilities"].numpy()""",
    ),
}
_README = """\
# {model}, trained on {dataset}

An image classifier ({format}): from uint8 `images` ({shape}) to float32 `probabilities`, {classes}
classes in the order of `class_names` in [{description}]({description}).

What a picture needs first: {preparation}.

```python
import json

{imports}

picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")
picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
picture = picture.convert("{mode}").resize(({width}, {height}), Image.Resampling.BILINEAR)
images = np.asarray(picture).reshape(-1, {height}, {width}, {channels})

{usage}
with open("{description}", encoding="utf-8") as file:
    class_names = json.load(file)["class_names"]
print(class_names[probabilities[0].argmax()], probabilities[0].max())
```

Compared after the conversion with the model that was trained, on {images:,} test images: each
probability within {difference:.1e} of that model's, another most probable class for {others:,}.
"""


def write_readme(path: Path, format: str, description: dict, comparison: Comparison) -> None:
    """Write what an export is and how to run it, for the person whom it is handed to."""
    _, height, width, channels = description["input"]["shape"]
    imports = ["import numpy as np", FORMATS[format].runtime, "from PIL import Image, ImageOps"]
    text = _README.format(
        model=shorten(description["model"]),
        dataset=shorten(description["dataset"]),
        format=format,
        shape=f"n, {height}, {width}, {channels}",
        classes=len(description["class_names"]),
        description=DESCRIPTION,
        preparation=description["input"]["preparation"],
        imports="\n".join(imports),
        mode="L" if channels == 1 else "RGB",
        height=height,
        width=width,
        channels=channels,
        usage=FORMATS[format].usage,
        images=comparison.images,
        difference=comparison.largest_difference,
        others=comparison.other_classes,
    )
    path.write_text(text, encoding="utf-8")
