"""Nothing in the project unpickles or executes what it loads: told by the code itself."""

import ast

import pytest

from tiny import ROOT

FILES = sorted([*ROOT.glob("imgpipe/**/*.py"), *ROOT.glob("stages/*.py")])
FORBIDDEN_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "shelve", "yaml"}
FORBIDDEN_CALLS = {"compile", "eval", "exec", "func_load", "enable_unsafe_deserialization"}
FORBIDDEN_CALLS |= {"load_model", "read_pickle"}


def find_faults(code: str) -> list[str]:
    """List what would unpickle or execute a file, or might."""
    faults = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        faults += [name for name in names if name.partition(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        function, options = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
        name = function.rpartition(".")[2]
        by_itself = function == name or function.startswith(("keras", "builtins", "pd"))
        if name in FORBIDDEN_CALLS and by_itself:
            faults.append(function)
        if function == "np.load" and not _is(options.get("allow_pickle"), False):
            faults.append("np.load without allow_pickle=False")
        if function == "joblib.load" or _is(options.get("safe_mode"), False):
            faults.append(function)
        if name == "YAML" and not _is(options.get("typ"), "safe"):
            faults.append("YAML without typ='safe'")
        if _is(options.get("shell"), True) or function == "os.system":
            faults.append(function)
    return faults


def _is(node: ast.expr | None, value) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_that_is_loaded_can_run_code(file):
    assert find_faults(file.read_text()) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "keras.models.load_model(path)",
        "deserialize(config, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "joblib.load(path)",
        "pd.read_pickle(path)",
        "YAML().load(path)",
        "YAML(typ='unsafe')",
        "import yaml",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_is_for(code):
    assert find_faults(code)


def test_keras_refuses_code_unless_told_otherwise():
    """What imgpipe.trained relies on besides its own check."""
    import keras

    layer = keras.layers.Lambda(lambda x: x)
    text = keras.Sequential([keras.Input((1,)), layer]).to_json()
    with pytest.raises(ValueError, match="lambda"):
        keras.models.model_from_json(text)
