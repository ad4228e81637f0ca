"""imgpipe.stage: how a script starts and fails."""

import os
import subprocess
import sys

import pytest

from imgpipe.stage import quiet_import, run_main


def test_a_user_error_is_one_line_and_status_1(monkeypatch):
    monkeypatch.delenv("IMGPIPE_TRACEBACK", raising=False)

    def main():
        raise ValueError("params.yaml: x=1 must be 2")

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == "error: params.yaml: x=1 must be 2"


def test_the_traceback_can_be_had(monkeypatch):
    monkeypatch.setenv("IMGPIPE_TRACEBACK", "1")

    def main():
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        run_main(main)


def test_a_defect_of_ours_keeps_its_traceback():
    def main():
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_main(main)


@pytest.mark.parametrize(("fails", "shown"), [("pass", ""), ("raise ImportError('no')", "noise")])
def test_import_noise_is_shown_only_with_a_failure(fails, shown):
    script = (
        "import os\nfrom imgpipe.stage import quiet_import\n"
        "try:\n  with quiet_import():\n"
        f"    os.write(2, b'noise')\n    {fails}\n"
        "except ImportError: pass"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stderr == shown


def test_standard_error_is_back_after_a_quiet_import(capfd):
    with quiet_import():
        os.write(2, b"hidden")
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
