"""stages.plot: how it reads the tables that it draws."""

import pandas as pd

from stages.plot import PLOTS, read_table


def test_names_stay_words_whatever_they_look_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PLOTS.mkdir()
    names = ["1", "007", "1e3", "NA", "True", "x"]
    columns = ("id", "actual", "predicted", "class")
    table = pd.DataFrame({**dict.fromkeys(columns, names), "probability": 0.5})
    table.to_csv(PLOTS / "predictions.csv", index=False)
    found = read_table("predictions")
    assert all(found[column].tolist() == names for column in columns)
    assert found["probability"].tolist() == [0.5] * len(names)
    # Where all of them look like numbers, pandas would make numbers of them.
    table.iloc[:2].to_csv(PLOTS / "predictions.csv", index=False)
    assert read_table("predictions")["actual"].tolist() == names[:2]
