"""Debian packages, downloaded and unpacked without root."""

import os
import shutil
import subprocess
from pathlib import Path

from imgpipe.files import remove
from imgpipe.stage import progress_bar

_HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")


def unpack_package(package: str, folder: Path, answer_seconds: float) -> Path:
    """Download and unpack a Debian package with apt, without root.

    apt gets folders of its own for its lists, cache and state, so that the system's package
    state is neither needed up to date nor touched; the machine's own sources, proxies and keys
    stay in force.

    Args:
        package: its name.
        folder: for apt's files; what a killed call has left there is removed.
        answer_seconds: after which a repository that has not answered is given up.

    Returns:
        The folder with the package's files.

    Raises:
        OSError: there is no apt, or it cannot get the package; the message is apt's first error.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FileNotFoundError("apt-get or dpkg-deb not found; this is not Debian or Ubuntu")
    folder = folder.resolve()  # apt reads relative paths from the root
    remove(folder)
    state, cache = folder / "state", folder / "cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    options = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": cache,
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": answer_seconds,
        "Acquire::https::Timeout": answer_seconds,
        "Acquire::Languages": "none",
        # As root, apt would hand the download to a user that may not write here.
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    hooks = folder / "no-hooks.conf"  # what the system does after an update of its own lists
    hooks.write_text("".join(f"#clear APT::Update::{hook};\n" for hook in _HOOKS))
    settings = ["-c", hooks, *(f"-o{key}={value}" for key, value in options.items())]
    try:
        _apt(["update", *settings], folder, "package lists")
    except OSError as error:  # another repository may be out of order; the download will tell
        update_error = f" ({error})"
    else:
        update_error = ""
    try:
        _apt(["download", *settings, package], folder, package)
    except OSError as error:
        raise OSError(f"{error}{update_error}") from None
    (archive,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, folder / "unpacked"], check=True)
    return folder / "unpacked"


def _apt(arguments: list[str], folder: Path, what: str) -> None:
    """Run apt-get in `folder`, with a progress bar from its status lines."""
    reader, writer = os.pipe()
    log = folder / "apt.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["apt-get", "-q", f"-oAPT::Status-Fd={writer}", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            env={**os.environ, "LC_ALL": "C"},
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as lines, progress_bar(total=100, unit="%", desc=what) as bar:
            for line in lines:  # dlstatus:<item>:<percent>:<words>
                fields = line.split(":", 3)
                if fields[0] == "dlstatus":
                    bar.update(max(0, float(fields[2]) - bar.n))
        status = process.wait()
    except BaseException:  # Ctrl-C may have reached this process alone
        process.kill()
        raise
    if status != 0:
        text = log.read_text(errors="replace").splitlines()
        errors = [line for line in text if line.startswith("E:")]
        raise OSError(f"apt-get {arguments[0]}: {(errors or text or ['failed'])[0]}")
