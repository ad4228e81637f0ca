"""imgpipe.params: every mistake has its message, and DVC's own spelling is read."""

import copy
import re
import sys
import warnings
from types import ModuleType

import pytest
from ruamel.yaml import YAML

from imgpipe.params import load_params
from imgpipe.schema import VGG_LAYERS
from tiny import DELETED, ROOT, set_value

CONTENT = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
EXPONENTIAL = {
    "decay": "exponential",
    "steps": 50,
    "rate": 0.98,
    "staircase": True,
    "warmup_epochs": 0,
}
CONTENT |= {"dataset": "fashion_mnist", "model": "cnn1", "seed": 13}


@pytest.fixture
def load(tmp_path):
    """Load params.yaml with changes: dotted path to value."""

    def load_changed(changes):
        content = copy.deepcopy(CONTENT)
        for path, value in changes.items():
            set_value(content, path.split("."), value)
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(content, file)
        return load_params(tmp_path / "params.yaml")

    return load_changed


@pytest.mark.parametrize("model", list(CONTENT["models"]))
def test_every_committed_block_is_in_order(load, model):
    params = load({"model": model})
    assert params.model_name == model
    assert params.recipe.epochs + params.recipe.augmented_epochs >= 1


@pytest.mark.parametrize("dataset", list(CONTENT["datasets"]))
def test_every_committed_dataset_is_in_order(load, dataset):
    params = load({"dataset": dataset, f"datasets.{dataset}.source": "/path/to/images"})
    assert params.dataset_name == dataset


@pytest.mark.parametrize("dataset", list(CONTENT["datasets"]))
def test_a_dataset_that_is_nowhere_to_be_had_says_what_to_do(load, dataset):
    if CONTENT["datasets"][dataset]["public_sources"]:
        assert load({"dataset": dataset}).dataset.source is None
    else:
        told = rf"datasets\.{dataset}\.source=null must name your images.*<class>/<image>.* -S"
        with pytest.raises(ValueError, match=told):
            load({"dataset": dataset})


def test_numbers_as_dvc_writes_them(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    text = re.sub(r"learning_rate: [0-9.]+", "learning_rate: 1e-05", text)
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").recipe.learning_rate == 1e-5


def test_one_dropout_stands_for_all_layers(load):
    assert load({"model": "cnn4"}).options == {
        "dropout": [0.25, 0.25, 0.25],
        "dense_dropout": [0.5, 0.5],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "cnn9"},
            "params.yaml: model=cnn9 is not in models; known: cnn1, cnn3, cnn4, cifar_cnn",
        ),
        ({"model": "cn1"}, "did you mean cnn1?"),
        (
            {"dataset": "fashion"},
            "params.yaml: dataset=fashion is not in datasets; known: fashion_mnist",
        ),
        ({"model": ["cnn1"]}, "params.yaml: model=['cnn1'] must be the name of one model"),
        ({"seed": DELETED}, "params.yaml: missing key seed; add it"),
        ({"seed": -1}, "params.yaml: seed=-1 must lie in [0, 2**32)"),
        ({"seed": 1.5}, "params.yaml: seed=1.5 must be a valid integer"),
        ({"seed": True}, "params.yaml: seed=True must be a valid integer"),
        ({"sed": 1}, "params.yaml: unknown key sed; did you mean seed?"),
        (
            {"models.cnn1.epoch": 3},
            "params.yaml: unknown key models.cnn1.epoch; did you mean epochs?",
        ),
        (
            {"models.cnn1.hidden_units": 3},
            "params.yaml: unknown key models.cnn1.hidden_units; known: ",
        ),
        ({"models.cnn1.epochs": DELETED}, "params.yaml: missing key models.cnn1.epochs; add it"),
        ({"models.cnn1.dropout": DELETED}, "params.yaml: missing key models.cnn1.dropout; add it"),
        ({"models.cnn1.epochs": 0}, "params.yaml: models.cnn1.epochs=0 must be 1 or greater"),
        (
            {"models.cnn1.epochs": "10"},
            "params.yaml: models.cnn1.epochs=10 must be a valid integer",
        ),
        ({"models.cnn1.dropout": 1.2}, "params.yaml: models.cnn1.dropout=1.2 must lie in [0, 1)"),
        ({"models.cnn1.learning_rate": 0}, "models.cnn1.learning_rate=0 must be greater than 0"),
        ({"models.cnn1.learning_rate": float("nan")}, "learning_rate=nan must be greater than 0"),
        (
            {"models.cnn1.optimizer": "adamm"},
            "models.cnn1.optimizer=adamm must be 'adam', 'adamw', 'sgd' or 'rmsprop'",
        ),
        (
            {"models.cnn1.momentum": 0.9},
            "models.cnn1.momentum=0.9 must be 0 unless optimizer is sgd or rmsprop",
        ),
        (
            {"models.cnn1.optimizer": "sgd", "models.cnn1.momentum": 1},
            "models.cnn1.momentum=1 must lie in [0, 1)",
        ),
        (
            {"models.cnn1.optimizer": "sgd", "models.cnn1.weight_decay": 0.01},
            "models.cnn1.weight_decay=0.01 must be 0 unless optimizer is adamw",
        ),
        (
            {"models.cnn1.label_smoothing": 1},
            "models.cnn1.label_smoothing=1 must lie in [0, 1)",
        ),
        (
            {"models.cnn1.class_weights": "equal"},
            "models.cnn1.class_weights=equal must be 'balanced'",
        ),
        (
            {"models.cnn1.early_stopping": {"patience": 0, "min_delta": 0}},
            "models.cnn1.early_stopping.patience=0 must be 1 or greater",
        ),
        (
            {"models.cnn1.early_stopping": {"patience": 1}},
            "missing key models.cnn1.early_stopping.min_delta; add it",
        ),
        ({"models.cnn1.early_stopping": 3}, "models.cnn1.early_stopping=3 must be a mapping"),
        (
            {"models.cnn1.augmentation.zoom": 1},
            "models.cnn1.augmentation.zoom=1 must lie in [0, 1)",
        ),
        ({"models.cnn1.augmentation.flip": True}, "unknown key models.cnn1.augmentation.flip"),
        (
            {"models.cnn1.augmentation.width_shift": -1},
            "models.cnn1.augmentation.width_shift=-1 must be 0 or greater",
        ),
        (
            {"models.cnn1.augmentation.horizontal_flip": 1},
            "models.cnn1.augmentation.horizontal_flip=1 must be a valid boolean",
        ),
        ({"models.cnn1": 3}, "params.yaml: models.cnn1=3 must be a mapping"),
        ({"models": None}, "params.yaml: models=null must be a mapping of model blocks"),
        (
            {"models.cnn1.augmented_epochs": 2, "models.cnn1.augmentation": None},
            "models.cnn1.augmentation=null must be given when augmented_epochs is not 0",
        ),
        (
            {"models.cnn1.schedule": {"decay": "cosine", "warmup_epochs": 10}},
            "models.cnn1.schedule.warmup_epochs=10 must be less than the 10 epochs",
        ),
        (
            {"models.cnn1.schedule": {"decay": "cosin", "warmup_epochs": 1}},
            "models.cnn1.schedule.decay=cosin must be one of 'constant', 'cosine', 'exponential'",
        ),
        ({"models.cnn1.schedule.decay": None}, "models.cnn1.schedule.decay=null must be one of"),
        ({"models.cnn1.schedule.decay": DELETED}, "missing key models.cnn1.schedule.decay; add it"),
        ({"models.cnn1.schedule": 3}, "params.yaml: models.cnn1.schedule=3 must be a mapping"),
        (
            {"models.cnn1.schedule.warmup_epochs": DELETED},
            "params.yaml: missing key models.cnn1.schedule.warmup_epochs; add it",
        ),
        (
            {"models.cnn1.schedule.warmup_epochs": -1},
            "params.yaml: models.cnn1.schedule.warmup_epochs=-1 must be 0 or greater",
        ),
        (
            {"models.cnn1.schedule.warmup_epoch": 1},
            "params.yaml: unknown key models.cnn1.schedule.warmup_epoch; did you mean warmup_epochs?",
        ),
        (
            {"models.cnn1.schedule.staircase": True},
            "unknown key models.cnn1.schedule.staircase; known: decay, warmup_epochs",
        ),
        (
            {"models.cnn1.schedule": EXPONENTIAL | {"rate": 1.1}},
            "params.yaml: models.cnn1.schedule.rate=1.1 must lie in (0, 1]",
        ),
        (
            {"models.cnn1.schedule": {"decay": "exponential", "warmup_epochs": 0}},
            "params.yaml: missing key models.cnn1.schedule.steps; add it",
        ),
        (
            {"model": "sneaker_cnn", "models.sneaker_cnn.pooling": "avg"},
            "models.sneaker_cnn.pooling=avg must be 'average' or 'max'",
        ),
        (
            {"model": "cnn3", "models.cnn3.dropout": [0.1, 0.2]},
            "models.cnn3.dropout=[0.1, 0.2] must be one number or a list of 3",
        ),
        (
            {"model": "cnn4", "models.cnn4.dropout": 1.2},
            "params.yaml: models.cnn4.dropout=1.2 must lie in [0, 1)",
        ),
        (
            {"model": "vgg19", "models.vgg19.augmented_epochs": 1},
            "models.vgg19.augmentation=null must be given when augmented_epochs is not 0",
        ),
        (
            {"model": "vgg16", "models.vgg16.augmented_epochs": 20},
            "features.augmented_copies=0 must be 1 or greater when augmented_epochs is not 0",
        ),
        (
            {"model": "vgg19", "models.vgg19.features.augmented_copies": 2},
            "models.vgg19.features.augmented_copies=2 must be 0 when augmented_epochs is 0: only",
        ),
        (
            {"model": "vgg16", "models.vgg16.features": None},
            "models.vgg16.features=null must be given: this model takes features",
        ),
        (
            {"models.cnn1.features": {"augmented_copies": 0}},
            "models.cnn1.features must be null: this model takes the images themselves",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.weights": "/no/file.h5"},
            "backbone.weights_sha256 must hold its SHA-256 sum (and there is no such file)",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.weights_sha256": "0" * 64},
            "must be null unless weights is a file",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.scalin": "unit"},
            "unknown key models.vgg16.backbone.scalin; did you mean scaling?",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.scaling": "imagenet+unit"},
            "models.vgg16.backbone.scaling=imagenet+unit must be 'imagenet' or 'unit'",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.layer": "block6_pool"},
            "models.vgg16.backbone.layer=block6_pool must be one of block1_conv1, ",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.layer": "block3_conv4"},
            "models.vgg16.backbone.layer=block3_conv4 must be one of block1_conv1, ",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.image_size": [64, 16]},
            "models.vgg16.backbone.image_size=[64, 16] must be 32 or more pixels each way",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone": None},
            "models.vgg16.backbone=null must be given: this model takes features",
        ),
        (
            {"models.cnn1.backbone": CONTENT["models"]["vgg16"]["backbone"]},
            "models.cnn1.backbone must be null: this model takes the images themselves",
        ),
        (
            {"datasets.fashion_mnist.files": {}},
            "datasets.fashion_mnist.files={} must map one or more plain file names",
        ),
        (
            {"datasets.fashion_mnist.files": {"../x": "0" * 64}},
            "must map one or more plain file names to SHA-256 sums",
        ),
        (
            {"datasets.fashion_mnist.files.train-images-idx3-ubyte": "123"},
            "files.train-images-idx3-ubyte=123 must be a SHA-256 sum",
        ),
        (
            {"datasets.fashion_mnist.source": "photos/shoes"},
            "datasets.fashion_mnist.source=photos/shoes must be an absolute path, begin with ~ or be "
            "an https:// address, or a list of such (experiments also run in other folders",
        ),
        ({"datasets.fashion_mnist.source": []}, "source=[] must be an absolute path"),
        (
            {"datasets.fashion_mnist.source": ["/a.zip", "b.zip"]},
            "datasets.fashion_mnist.source=['/a.zip', 'b.zip'] must be an absolute path",
        ),
        (
            {"datasets.fashion_mnist.files": None},
            "datasets.fashion_mnist.files=null must name the files with their sums",
        ),
        (
            {"datasets.fashion_mnist.part_folders": {"valid": "x"}},
            "datasets.fashion_mnist.part_folders.valid=valid must be 'train', 'val' or 'test'",
        ),
        (
            {"datasets.fashion_mnist.group_pattern": "(a"},
            "datasets.fashion_mnist.group_pattern=(a must be a regular expression with one (group)",
        ),
        ({"datasets.fashion_mnist.group_pattern": "a-b"}, "=a-b must be a regular expression with"),
        (
            {"datasets.fashion_mnist.on_bad_image": "ignore"},
            "datasets.fashion_mnist.on_bad_image=ignore must be 'error' or 'skip'",
        ),
        (
            {"datasets.fashion_mnist.split.method": "kfold"},
            "datasets.fashion_mnist.split.folds=null must be given where method is kfold",
        ),
        (
            {"datasets.fashion_mnist.split.fold": 0},
            "datasets.fashion_mnist.split.fold=0 must be null unless method is kfold",
        ),
        (
            {"dataset": "mpox", "datasets.mpox.split.fold": 5},
            "datasets.mpox.split.fold=5 must be less than folds=5",
        ),
        (
            {"dataset": "mpox", "datasets.mpox.split.folds": 1},
            "datasets.mpox.split.folds=1 must be 2 or greater",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.image_size": [64]},
            "models.vgg16.backbone.image_size=[64] must be [height, width] in pixels",
        ),
        (
            {"datasets.fashion_mnist.split.val_fraction": 0},
            "datasets.fashion_mnist.split.val_fraction=0 must be greater than 0",
        ),
        (
            {"datasets.fashion_mnist.channels": 2},
            "datasets.fashion_mnist.channels=2 must be 1 or 3",
        ),
        (
            {"datasets.fashion_mnist.channels": True},
            "fashion_mnist.channels=True must be 1 or 3, a whole",
        ),
        (
            {"datasets.fashion_mnist.channels": 3.0},
            "fashion_mnist.channels=3 must be 1 or 3, a whole",
        ),
        ({"datasets.fashion_mnist.class_names": ["a", " "]}, "must be names of 1 to 200 char"),
        ({"datasets.fashion_mnist.class_names": ["a", "a "]}, "without blanks around them"),
        ({"datasets.fashion_mnist.class_names": ["é", "e\u0301"]}, "2 or more names, each once"),
        ({"datasets.fashion_mnist.class_names": ["a", "b\u202ec"]}, "no line ends and no control"),
        ({"datasets.fashion_mnist.source": "/tmp/x\ny"}, "must hold no line ends"),
        ({"datasets.fashion_mnist.source": ["/tmp/x", "/tmp/\x1b[31m"]}, "must hold no line ends"),
        ({"datasets.fashion_mnist.group_pattern": "(zz)\n"}, "must hold no line ends"),
        (
            {"datasets.fashion_mnist.part_folders": {}},
            "part_folders={} must name a folder for each of the parts that there are, each once",
        ),
        ({"datasets.fashion_mnist.part_folders": {"train": "a", "val": "A"}}, "each once"),
        (
            {"datasets.fashion_mnist.part_folders": {"train": "data/train"}},
            "must be folders' names alone, without what lies around them",
        ),
        ({"datasets.fashion_mnist.part_folders": {"train": ".."}}, "must be folders' names alone"),
        ({"models.cnn1.learning_rate": 1e300}, "learning_rate=1e+300 must be 1,000 or less"),
        (
            {"datasets.fashion_mnist.class_names": ["a", "a"]},
            "must be 2 or more names, each once",
        ),
        ({"datasets.fashion_mnist.source": 3}, "datasets.fashion_mnist.source=3 must be"),
        (
            {"datasets.fashion_mnist.public_sources": [{"url": "http://example.org"}]},
            "datasets.fashion_mnist.public_sources[0].url=http://example.org must begin with https://",
        ),
        ({"datasets.fashion_mnist.source": "https:///a.zip"}, "source=https:///a.zip must be an"),
        ({"datasets.fashion_mnist.source": "https://h:port/"}, "source=https://h:port/ must be an"),
        (
            {"datasets.fashion_mnist.public_sources": [{}]},
            "datasets.fashion_mnist.public_sources[0]={} must have one of folder, url, debian_package",
        ),
    ],
)
def test_mistakes(load, changes, message):
    with pytest.raises(ValueError) as caught:
        load(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"datasets.fashion_mnist.source": "https://me:hidden@host/a.zip"},
            "datasets.fashion_mnist.source=https://***@host/a.zip must not hold a login, as "
            "params.yaml is committed and printed; put it into ~/.netrc",
        ),
        (
            {"datasets.fashion_mnist.source": "http://me:hidden@host/a.zip"},
            "datasets.fashion_mnist.source=http://***@host/a.zip must not hold a login",
        ),
        (
            {"datasets.fashion_mnist.source": ["a.zip", "https://host/a.zip?X-Amz-Token=hidden"]},
            "datasets.fashion_mnist.source[1]=https://host/a.zip?X-Amz-Token=*** must not hold the "
            "key or password X-Amz-Token",
        ),
        (
            {"datasets.fashion_mnist.source": {"url": "https://me:hidden@host/"}},
            "datasets.fashion_mnist.source.url=https://***@host/ must not hold a login",
        ),
        (
            {"datasets.fashion_mnist.source": "https://host/a.zip#hidden"},
            "datasets.fashion_mnist.source=https://host/a.zip#*** must not hold a #",
        ),
        (
            {"datasets.fashion_mnist.public_sources": [{"url": "https://me:hidden@host/"}]},
            "datasets.fashion_mnist.public_sources[0].url=https://***@host/ must not hold a login",
        ),
        (
            {"datasets.fashion_mnist.public_sources": ["https://me:hidden@host/"]},
            "datasets.fashion_mnist.public_sources[0]=https://***@host/ must not hold a login",
        ),
        (
            {
                "model": "vgg16_block4",
                "models.vgg16_block4.backbone.weights": "https://host/x.h5?token=hidden",
            },
            "models.vgg16_block4.backbone.weights=https://host/x.h5?token=*** must not hold",
        ),
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_told(load, changes, message):
    with pytest.raises(ValueError) as caught:
        load(changes)
    assert str(caught.value).startswith(f"params.yaml: {message}")
    assert "hidden" not in str(caught.value)


def test_weights_are_no_address(load):
    changes = {"models.vgg16_block4.backbone.weights": "https://host/x.h5"}
    with pytest.raises(ValueError, match=r"weights=https://host/x\.h5 must be imagenet, null or a"):
        load({"model": "vgg16_block4", **changes})


def test_a_training_on_augmented_images_alone(load):
    params = load({"models.cnn1.epochs": 0, "models.cnn1.augmented_epochs": 3})
    assert (params.recipe.epochs, params.recipe.augmented_epochs) == (0, 3)


def test_an_unfinished_block_of_another_model_hinders_nobody(load):
    assert load({"models.cnn4.epochs": DELETED}).model_name == "cnn1"


def test_a_block_without_its_module(load):
    with pytest.raises(
        ValueError, match=r"imgpipe/models/mine\.py: not found; the block models.mine"
    ):
        load({"model": "mine", "models.mine": {}})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "has no function build_model; add it"),
        ("def build_model(shape, n): pass", "is shape; name it image_shape, or feature_shape"),
        (
            "def build_model(image_shape, n, *, width): pass",
            "option width has no type; annotate it",
        ),
    ],
)
def test_a_module_that_does_not_say_what_it_takes(load, monkeypatch, code, message):
    module = ModuleType("imgpipe.models.mine")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "imgpipe.models.mine", module)
    with pytest.raises(ValueError, match=message):
        load({"model": "mine", "models.mine": {}})


@pytest.mark.parametrize("model", ["vgg16", "vgg19"])
def test_the_layers_of_a_vgg_are_those_of_keras(model):
    import keras

    network = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[model]
    layers = network(weights=None, include_top=False, input_shape=(32, 32, 3)).layers[1:]
    assert VGG_LAYERS[model] == [layer.name for layer in layers]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "params.yaml: line 2: key seed stands twice; remove one"),
        ("a: [", "params.yaml: not valid YAML"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping"),
        ("seed: !!python/object/apply:os.getcwd []", "params.yaml: "),
    ],
)
def test_broken_files(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_params(tmp_path / "params.yaml")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="run from the project's folder"):
        load_params(tmp_path / "params.yaml")


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n + 1}: &a{n + 1} {{<<: [*a{n}, *a{n}], k{n}: 1}}\n" for n in range(40)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# " + "x" * (1 << 20), "params.yaml: is larger than 131,072 bytes; remove blocks"),
        ("[" * 100_000, "not valid YAML: is nested too deep; mend it"),
        ("- " * 5000, "not valid YAML: is nested too deep; mend it"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4: key b stands twice; remove one"),
        ("a: {b: 1, 'b': 2}", "line 1: key b stands twice; remove one"),
        ("a: 1\nb: &b [1, *b]\n", "line 2: an alias that leads to itself"),
        ("a: &a {b: {c: *a}}\n", "line 1: an alias that leads to itself"),
        ("a: &a {<<: *a}\n", "line 1: an alias that leads to itself"),
        (LAUGHS, "line 5: aliases that stand for over 100,000 values; write out what is used"),
        (MERGES, "aliases that stand for over 100,000 values"),
        ("a: *b", "not valid YAML: line 1: found undefined alias"),
        ("seed: !foo 3", "line 1: the tag !foo; remove it, only plain values are read"),
        ("seed: !!binary aGFsbG8=", "the tag !!binary; remove it"),
        ("seed: !!set {a, b}", "the tag !!set; remove it"),
        (
            "a: 1\nseed: !!python/object/apply:os.getcwd []",
            "line 2: the tag !!python/object/apply:",
        ),
        ("seed: !!float x", "not valid YAML: "),
        ("seed: !!bool x", "not valid YAML: "),
        ("seed: !!int ''", "not valid YAML: "),
        ("seed: " + "9" * 5000, "line 1: a number of 5,000 characters; give a smaller one"),
        ("seed: 0x" + "F" * 50_000, "line 1: a number of 50,002 characters"),
        ("? [a, b]\n: 1", "line 1: a key that is a list or mapping; give it a name"),
        ("seed: 1\n---\nseed: 2\n", "not valid YAML: line 2: but found another document"),
        ("seed: \x01", "not valid YAML: "),
        ("%YAML 9.9\n---\nseed: 1\n", "not valid YAML: "),
        ("seed: \x1b[31m", "not valid YAML: "),
        ("k" * 900 + ": 1", "unknown key kkkk"),
        ("null: 1", "unknown key None; "),
        ("1: 1", "unknown key 1; "),
        ("just text", "must be a mapping"),
    ],
)
def test_hostile_files(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        load_params(tmp_path / "params.yaml")
    told = str(caught.value)
    assert told.startswith("params.yaml: ") and message in told
    assert told.isprintable() and len(told) < 400


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ValueError, match=r"params\.yaml: not valid YAML: .*decode byte 0xff"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models.cnn1.batch_size": 10**7}, "batch_size=10000000 must be 1,000,000 or less"),
        ({"models.cnn1.epochs": 10**60}, "must be 1,000,000 or less"),
        ({"datasets.fashion_mnist.image_size": [28, 4097]}, "must be 4,096 or less pixels each way"),
        ({"models.cnn1.learning_rate": float("inf")}, "learning_rate=inf must be greater than 0"),
        ({"seed": "x" * 5000}, "params.yaml: seed=xxxx"),
        ({"seed": "a\nb\x1b"}, "params.yaml: seed='a\\nb\\x1b' must be a valid integer"),
        ({"seed": [1] * 9000}, "params.yaml: seed=[1, 1, 1"),
        ({"model": "m" * 5000}, "is not in models; known: cnn1"),
        ({"model": "a/cnn1", "models.a/cnn1": {}}, "model=a/cnn1 must be a plain name"),
        ({"model": "cnn1\x00", "models.cnn1\x00": {}}, "model='cnn1\\x00' must be a plain name"),
        ({"model": "m" * 5000, f"models.{'m' * 5000}": {}}, "must be a plain name"),
        ({"models.cnn1." + "k" * 5000: 1}, "unknown key models.cnn1.kkk"),
        ({"datasets.fashion_mnist." + "k" * 5000: 1}, "unknown key datasets.fashion_mnist.kkk"),
        ({"datasets.fashion_mnist.group_pattern": "(" * 20_000}, "must be a regular expression"),
        ({"datasets.fashion_mnist.group_pattern": "(a{99999999999})"}, "must be a regular expression"),
        ({"datasets.fashion_mnist.source": "~nobody-here/x"}, "must begin with ~ or the ~name of a"),
        (
            {"model": "vgg16", "models.vgg16.backbone.weights": "/" + "x" * 5000},
            "… cannot be looked up (File name too long)",
        ),
        (
            {"model": "vgg16", "models.vgg16.backbone.weights": "~nobody-here/x"},
            "models.vgg16.backbone.weights=~nobody-here/x must begin with ~ or the ~name",
        ),
    ],
)  # fmt: skip
def test_values_beyond_reason(load, changes, message):
    with pytest.raises(ValueError) as caught:
        load(changes)
    assert message in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_anchors_and_merge_keys_used_as_meant(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("models:\n", "models:\n  copy: &copy {epochs: 7}\n", 1)
    lines = text.split("\n")
    start = next(n for n, line in enumerate(lines) if line.startswith("  cnn1:"))
    epochs = next(n for n in range(start, len(lines)) if lines[n].startswith("    epochs:"))
    lines[epochs] = "    <<: *copy"
    (tmp_path / "params.yaml").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    params = load_params(tmp_path / "params.yaml")
    assert (params.model_name, params.recipe.epochs) == ("cnn1", 7)


def test_nothing_is_printed_of_a_name_given_twice(tmp_path):
    (tmp_path / "params.yaml").write_text("a: &x 1\nb: &x 2\nc: *x\n")
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(ValueError, match="unknown key a"),
    ):
        load_params(tmp_path / "params.yaml")
