"""Addresses: which may stand in params.yaml, how they are shown, and what to call their files."""

import hashlib
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, unquote_plus, urlsplit

# A login before the host, also one whose password has characters that should have been quoted.
_LOGIN = re.compile(
    r"(?P<scheme>\w://)(?:[^\s/?#]*@|[^\s/?#@:\[]*:(?!\d*(?:[/?#\s]|$))\S*?@(?=[\w.-]+(?:[:/?#\s]|$)))"
)
_QUERY_VALUE = re.compile(r"(?P<name>[?&;][^\s=&;#?'\"<>)]+)=[^\s&#'\"<>)]*")
_QUERY_WORD = re.compile(r"(?P<before>\w://[^\s?#]*\?)[^\s=&#]+(?=$|[\s#])")
_FRAGMENT = re.compile(r"(?P<before>\w://[^\s#]*#)\S+")
_SECRET_NAME = re.compile(
    r"token|secret|signature|passw|passphrase|credential|oauth|authori[sz]|session|^x-(amz|goog)-|"
    r"key(id)?$|(?<![a-z])(auth|key|sig|jwt|pwd|pass|pw|sas|code)(?![a-z])",
    re.IGNORECASE,
)
_LONGEST_NAME = 120  # bytes; most disks take 255, and a few more letters are put behind


def is_address(text: str) -> bool:
    """Tell whether a text is an https address of some host."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        return False
    return text.startswith("https://") and bool(parts.hostname) and text.isprintable()


def find_secret(text: str) -> str | None:
    """Tell which rule an address breaks that would give a secret away.

    Args:
        text: any text; only an address can break a rule.

    Returns:
        The rule with its remedy, to follow `key=value` in a message; None if none is broken.
    """
    if "://" not in text:
        return None
    if _LOGIN.search(text):
        return (
            "must not hold a login, as params.yaml is committed and printed; put it into ~/.netrc "
            "(machine <host> login <name> password <password>), from where it is used"
        )
    address, _, fragment = text.partition("#")
    names = [unquote_plus(p.partition("=")[0]) for p in re.split("[&;]", address.partition("?")[2])]
    if secret := next(filter(_SECRET_NAME.search, names), None):
        return (
            f"must not hold the key or password {secret}, as params.yaml is committed and printed; "
            "if the server takes a login, put that into ~/.netrc, or else download the file and "
            "name your copy"
        )
    if fragment:
        return "must not hold a #, as servers never see what follows it; remove it"
    return None


def hide_secrets(text: str) -> str:
    """Put *** for what may be secret in the addresses within a text: logins, values in queries."""
    text = _LOGIN.sub(r"\g<scheme>***@", text)
    text = _QUERY_VALUE.sub(r"\g<name>=***", text)
    text = _QUERY_WORD.sub(r"\g<before>***", text)
    return _FRAGMENT.sub(r"\g<before>***", text)


def local_path(address: str, folder: Path) -> Path:
    """Choose where an address's file goes: one place for each address, within `folder`.

    Args:
        address: an https address, of whatever form.
        folder: for downloads.

    Returns:
        <folder>/<16 digits for the address>/<the last step of its path, made safe>.
    """
    steps = re.split(r"[/\\]", unquote(urlsplit(address).path))
    last = next(filter(None, reversed(steps)), "")
    name = re.sub(r"[^\w.+-]", "_", unicodedata.normalize("NFC", last))
    # The end is kept, as it tells the kind; what begins with a dot would be taken for a system's.
    name = name.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(".")
    return folder / hashlib.sha256(address.encode()).hexdigest()[:16] / (name or "download")
