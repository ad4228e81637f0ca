"""plots_page: write the page for `dvc plots show` and `diff`, with Vega in it. Run by make setup.

DVC's own page loads Vega from the network. Which page it takes is set for this folder alone: a
clone in which this has not run gets DVC's own, while a page that is set but missing is an error.
"""

import subprocess
import sys
from pathlib import Path

from imgpipe.files import replacing
from imgpipe.stage import run_main
from imgpipe.vega import load_vega_script

TEMPLATE = Path("imgpipe/templates/plots_page.html")
PAGE = Path(".dvc/plots_page.html")
OPTION = "plots.html_template"


def main():
    """Write the page and have DVC take it, unless it is to take another."""
    with replacing(PAGE) as temporary:
        temporary.write_text(fill_template(TEMPLATE.read_text("utf-8")), "utf-8")
    page = run_dvc("config", OPTION) or PAGE.name
    if page == PAGE.name:
        run_dvc("config", "--local", OPTION, page)
        print("plots_page: dvc plots show and dvc plots diff write pages that need no network")
    else:
        print(f"plots_page: DVC's option {OPTION} says {page}; left so")


def fill_template(template: str) -> str:
    """Put Vega into the page; DVC puts the plots into what this returns."""
    return template.replace("{vega_script}", load_vega_script())


def run_dvc(*arguments: str) -> str:
    """Run DVC and return what it prints.

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise ValueError(f"dvc {' '.join(arguments)} failed; what it says stands above")
    return result.stdout.strip()


if __name__ == "__main__":
    run_main(main)
