"""summary: print the scores of the results in this folder, and where to look next."""

import json
from pathlib import Path

from imgpipe.contract import CONTRACT, load_contract
from imgpipe.stage import run_main

MODEL = Path("data/model")
METRICS = Path("metrics")


def main():
    """Print one table."""
    contract = load_contract(MODEL / CONTRACT)
    train, test = (json.loads((METRICS / f"{s}.json").read_text()) for s in ("train", "test"))
    low, high = test["accuracy_low"], test["accuracy_high"]
    rows = {
        "test accuracy": f"{test['accuracy']:.4f}  (95 % interval {low:.4f} to {high:.4f})",
        "macro F1": f"{test['macro_f1']:.4f}",
        "loss": f"{test['loss']:.4f}",
        "calibration error": f"{test['calibration_error']:.4f}",
        "val accuracy": f"{train['val_accuracy']:.4f}  (epoch {train['kept_epoch']} of "
        f"{train['epochs']})",
        "parameters": f"{test['parameters']:,}",
        "multiply-adds": f"{test['multiply_adds']:,} an image",
    }
    print(f"\n{contract.model} on {contract.dataset}, {test['images']:,} test images")
    for name, value in rows.items():
        print(f"  {name:<18} {value}")
    print(
        "\nLook next (in the environment: . .venv/bin/activate)\n"
        "  plots/report.html                  everything on one page, without a network\n"
        "  dvc plots show --open              interactive curves and confusion matrix\n"
        "  dvc exp run -S model=cnn4          another model\n"
        "  python -m stages.compare main NAME is an experiment's difference more than noise?\n"
        "  python -m stages.predict FILE      classify an image of your own"
    )


if __name__ == "__main__":
    run_main(main)
