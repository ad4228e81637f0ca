"""imgpipe.stage: how a script starts, fails and is interrupted."""

import os
import signal
import subprocess
import sys

import pytest

from imgpipe.stage import quiet_import

NO_MEMORY = (
    "error: there is not enough memory; close other programs, or lower batch_size or image_size"
)
RUN = "from imgpipe.stage import run_main\n"


def run_script(main: str, **environment: str):
    """Run a script whose `main` has these lines, in a process of its own."""
    lines = "".join(f"    {line}\n" for line in main.splitlines())
    script = f"{RUN}def main():\n{lines}run_main(main)\n"
    environment = {k: v for k, v in os.environ.items() if k != "IMGPIPE_TRACEBACK"} | environment
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("ValueError('params.yaml: x=1 must be 2')", "error: params.yaml: x=1 must be 2"),
        ("FileNotFoundError('x: not found')", "error: x: not found"),
        (
            "OSError(28, 'No space left on device', 'data/x')",
            "error: data/x: the disk is full; free some space, then dvc repro goes on from what "
            "is finished",
        ),
        ("MemoryError()", NO_MEMORY),
        ("type('ResourceExhaustedError', (Exception,), {})()", NO_MEMORY),
    ],
)
def test_a_user_error_is_one_line_and_status_1(error, line):
    result = run_script(f"raise {error}")
    assert (result.returncode, result.stderr, result.stdout) == (1, f"{line}\n", "")


def test_the_traceback_can_be_had():
    result = run_script("raise ValueError('x')", IMGPIPE_TRACEBACK="1")
    assert "Traceback" in result.stderr and result.stderr.endswith("ValueError: x\n")


def test_a_defect_of_ours_keeps_its_traceback():
    result = run_script("raise KeyError('x')")
    assert "Traceback" in result.stderr and result.stderr.endswith("KeyError: 'x'\n")


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"TERM": "xterm"}, "\033[31merror:\033[0m x"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "error: x"),
        ({"TERM": "dumb"}, "error: x"),
    ],
)
def test_a_terminal_shows_errors_in_colour_unless_it_is_to_show_none(environment, line):
    leader, terminal = os.openpty()
    script = f"{RUN}def main():\n    raise ValueError('x')\nrun_main(main)\n"
    names = ("NO_COLOR", "IMGPIPE_TRACEBACK")
    inherited = {key: value for key, value in os.environ.items() if key not in names}
    subprocess.run([sys.executable, "-c", script], stderr=terminal, env=inherited | environment)
    assert os.read(leader, 1000).decode() == f"{line}\r\n"
    os.close(terminal)
    os.close(leader)


BUSY = {
    "in Python": "while True: pass",
    "in native code": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2 * 10**9)",
    "in an import": "from imgpipe.stage import quiet_import\nwith quiet_import():\n    while 1: pass",
    "where the interrupt becomes another error": (
        "try:\n    while True: pass\nexcept KeyboardInterrupt: raise ImportError('x')"
    ),
    "where the interrupt is swallowed": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", BUSY.values(), ids=BUSY)
def test_an_interrupt_ends_a_script_wherever_it_is_with_one_line(busy, number):
    lines = "".join(f"    {line}\n" for line in busy.splitlines())
    script = f"{RUN}def main():\n    print('busy', flush=True)\n{lines}run_main(main)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "busy\n"
    process.send_signal(number)
    try:  # two seconds, on a machine that does nothing else
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, said) == (128 + number, "interrupted\n")


def test_what_was_being_written_is_cleaned_up_after_an_interrupt(tmp_path):
    script = (
        f"{RUN}from imgpipe.files import replacing\n"
        f"def main():\n    with replacing({str(tmp_path / 'x')!r}) as path:\n"
        "        path.write_text('half'); print('busy', flush=True)\n        while True: pass\n"
        "run_main(main)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 128 + signal.SIGINT
    assert not list(tmp_path.iterdir())


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


def test_keras_does_without_what_is_there_for_others_afterwards():
    script = (
        "import gc, sys\nfrom imgpipe.stage import importing_keras\n"
        "with importing_keras():\n    from keras import layers\n"
        "print([name for name in ('matplotlib.pyplot', 'pandas', 'sklearn') if name in sys.modules])\n"
        "import matplotlib.pyplot, pandas, sklearn.metrics\nprint(gc.isenabled(), layers.Dense(1).units)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "[]\nTrue 1\n"
