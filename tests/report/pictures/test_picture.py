"""A plot stands in a page of any colour, names nothing that another plot names, and says in words what it shows."""

import xml.etree.ElementTree

from matplotlib.figure import Figure

from harness.report.pictures.picture import WIDTH, Picture, drawn

SVG = "{http://www.w3.org/2000/svg}"


def _plot(title: str) -> Picture:
    figure = Figure(figsize=(WIDTH, 2))
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0.9, 0.99, 0.95], label="attention")
    axes.set_xlabel("layer")
    axes.legend()
    return drawn(figure, title, 'PCC by layer: "attention" falls in layer 0')


def test_it_is_one_svg_element_with_its_alternative_text() -> None:
    root = xml.etree.ElementTree.fromstring(_plot("PCC").svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'PCC by layer: "attention" falls in layer 0'
    assert "layer" in [text.text for text in root.iter(f"{SVG}text")], "text stays text"


def test_neither_black_nor_white_is_left() -> None:
    svg = _plot("PCC").svg
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "#ffffff" not in svg


def test_two_plots_share_no_name() -> None:
    names = [
        {element.get("id") for element in xml.etree.ElementTree.fromstring(_plot(title).svg).iter()} - {None}
        for title in ("PCC", "KL")
    ]
    assert names[0]
    assert not names[0] & names[1]


def test_the_same_plot_gives_the_same_text() -> None:
    assert _plot("PCC") == _plot("PCC")
