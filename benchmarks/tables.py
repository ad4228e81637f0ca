"""What the benchmarks print: Markdown, with the machine in the first line."""

from tabulate import tabulate

from imgpipe.environment import describe_environment

NOT_INSTALLED = "not installed"
_SHOWN = ("tensorflow", "keras", "numpy", "dvc")


def print_machine(torch: str | None = None) -> None:
    """Print what the figures below were measured on.

    Args:
        torch: version of PyTorch, if contenders use it.
    """
    facts = describe_environment()
    versions = [f"{name} {facts['packages'][name]}" for name in _SHOWN]
    versions += [f"torch {torch}"] if torch else []
    print(
        f"{facts['processor']} ({', '.join(facts['instructions'])}), {facts['cores']} cores, "
        f"Python {facts['python']}, {', '.join(versions)}",
        flush=True,
    )


def print_table(title: str, columns: list[str], rows: list[list]) -> None:
    """Print a table below a heading; numbers to the right."""
    align = ["left"] + ["right"] * (len(columns) - 1)
    table = tabulate(rows, columns, "pipe", colalign=align, disable_numparse=True)
    print(f"\n### {title}\n\n{table}", flush=True)


def word_figure(value: float) -> str:
    """Word a number with three digits that count: 0.0123, 1.23, 12.3, 1,230."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def word_ratio(value: float) -> str:
    """Word how many times as much something is."""
    return f"{word_figure(value)}×"


def word_memory(size: int) -> str:
    """Word a number of bytes."""
    return f"{size / 1e6:,.0f} MB"
