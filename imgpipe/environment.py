"""What a result depends on beside the code and the parameters: versions and the processor."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import joblib

from imgpipe.files import write_json

PACKAGES = ("tensorflow", "keras", "numba", "numpy", "pandas", "pillow", "scikit-learn", "dvc")
# Instructions that decide how TensorFlow and the compiled loops round.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")


def describe_environment() -> dict:
    """Describe this machine and its software, as far as results depend on them.

    Returns:
        python, packages (name to version), system, processor, instructions, cores.
    """
    processor, flags = read_processor()
    return {
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor,
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": joblib.cpu_count(),
    }


def read_processor() -> tuple[str, set[str]]:
    """Return the processor's name and instruction sets, as Linux tells them."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    return facts.get("model name", platform.processor()), set(facts.get("flags", "").split())


def record_environment(path: Path, stage: str, precision: str | None) -> None:
    """Note in a JSON file on what a stage has computed its results.

    Args:
        path: the file, with one entry a stage; entries of other stages stay.
        stage: name of the stage.
        precision: in which it computed; None to remove the entry, where it computed nothing.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        entries = {}
    entries.pop(stage, None)
    if precision:
        entries[stage] = {"precision": precision, **describe_environment()}
    write_json(dict(sorted(entries.items())), path)
