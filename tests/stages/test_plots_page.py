"""The page that DVC puts its plots into."""

from stages import plots_page
from tiny import ROOT


def test_the_page_holds_vega_and_room_for_the_plots_and_loads_nothing():
    page = plots_page.fill_template((ROOT / plots_page.TEMPLATE).read_text("utf-8"))
    assert "vegaEmbed" in page
    assert len(page) > 500_000
    assert "{vega_script}" not in page
    assert [page.count(name) for name in ("{plot_divs}", "{refresh_tag}", "{scripts}")] == [1, 1, 0]
    assert "<script src" not in page


def test_dvc_is_told_unless_it_has_a_page_already(project, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(plots_page, "load_vega_script", lambda: "let vega;")
    project.run("dvc", "config", "--local", plots_page.OPTION, "mine.html")
    plots_page.main()
    assert "says mine.html; left so" in capsys.readouterr().out
    project.run("dvc", "config", "--local", "--unset", plots_page.OPTION)
    plots_page.main()
    assert project.run("dvc", "config", plots_page.OPTION).stdout == "plots_page.html\n"
    assert "let vega;" in plots_page.PAGE.read_text("utf-8")
    assert project.run("git", "status", "--porcelain").stdout == ""
