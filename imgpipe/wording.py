"""Words for what files hold and libraries say: of any length and any characters, on one line."""

from typing import Any


def shorten(value: Any, length: int = 80) -> str:
    """Show a value or name that a file gave, as it is unless it is long or cannot be printed."""
    text = str(value)
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text if text.isprintable() else repr(text)


def word_error(error: Exception) -> str:
    """Show what a library says of a broken file, or the error's name where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return shorten(text, 200)
