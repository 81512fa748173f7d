"""The page says what the records say, needs nothing but itself, and reads in a real browser on a phone and in the dark."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report.html import write_html
from harness.results.schema import Environment, Record, Results
from tests.report.browser import Browser, browser, installed

VOID = {"meta", "link", "br", "hr", "img", "input"}
ENVIRONMENT = Environment.collect(target="emulator", mesh="1x1", model="smollm2", emulator_mode="fast")
TEST = "suites/modules/test_mlp.py::test_prefill[{precision}-mlp.layer{layer}.prefill.S128.B1]"


def record(layer: int = 0, precision: str = "accuracy", **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "test": TEST.format(precision=precision, layer=layer),
        "module": "mlp",
        "layer": layer,
        "phase": "prefill",
        "seq_len": 128,
        "precision": precision,
        "target": "emulator",
        "metric": "pcc",
        "value": 0.99991,
        "gate": 0.999,
        "guideline": 0.999,
        "direction": "higher",
        "verdict": "pass",
    }
    return Record(**fields | changes)


TOKEN = "KL 2.1 at 0:3: 'the cat <b>' -> golden ' sat' 0.912; device ' mat' 0.4"
FAULTY = record(29, value=0.5, verdict="regression", note="<script>alert('x')</script> & so on")
RECORDS = (
    *(record(layer, precision) for layer in range(29) for precision in ("accuracy", "performance")),
    FAULTY,
    *(record(module="model", layer=None, metric=metric, value=0.97) for metric in ("top1", "top5")),
    record(
        module="model",
        layer=None,
        metric="kl",
        value=0.97,
        details={"worst_token": 3.0, "worst_token_1": TOKEN},
    ),
)


class Reader(html.parser.HTMLParser):
    """Checks that every element is closed where it was opened, and keeps what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_html(Results(ENVIRONMENT, RECORDS), path)
    return path


@pytest.fixture(scope="module")
def page(file: Path) -> Reader:
    return Reader(file.read_text(encoding="utf-8"))


def test_the_verdict_comes_first_and_the_fault_with_its_command(page: Reader) -> None:
    text = page.text[page.text.index("VERDICT", page.text.index("}")) :]  # past the title and the style
    assert text.startswith("VERDICT: 1 of 62 checks are not pass: 1 regression")
    fault = text.index("regression accuracy mlp layer 29 prefill")
    assert fault < text.index("Modules, precision accuracy")
    assert f"pytest '{FAULTY.test}' --tt-emulator-mode=fast" in text[fault : fault + 400]


def test_each_module_has_its_layers_beside_one_another(tmp_path: Path) -> None:
    records = [
        record(layer, metric="worst_row_pcc", value=value, verdict="pass" if value > 0.998 else "regression")
        for layer, value in ((0, 0.99991), (14, 0.99985), (14, 0.95))
    ]
    write_html(Results(ENVIRONMENT, tuple(records)), tmp_path / "layers.html")
    content = (tmp_path / "layers.html").read_text()
    row = re.search(r"<tr><td[^>]*>accuracy</td><td[^>]*>mlp</td>.*?</tr>", content)
    assert row is not None
    assert re.findall(r'<td class="(\w* ?)number">(.*?)</td>', row[0]) == [
        (" ", "0.99991"),
        ("bad ", "0.95000!"),
    ]


def test_every_test_is_there_with_a_command(page: Reader) -> None:
    for one in {r.test for r in RECORDS}:
        assert f"pytest '{one}'" in page.text


def test_a_token_stands_in_its_context(page: Reader) -> None:
    assert TOKEN in page.text
    assert "Largest KL: accuracy prefill, mesh 1x1" in page.text


def test_text_of_records_is_text(file: Path) -> None:
    content = file.read_text(encoding="utf-8")
    assert "<script" not in content
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; so on" in content


def test_nothing_is_fetched(file: Path, page: Reader) -> None:
    for tag, attributes in page.attributes:
        assert tag not in ("script", "iframe", "img", "object", "embed")
        for name in ("src", "href", "xlink:href", "data", "action"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, target)
    style = re.findall(r"url\(([^)]*)\)", file.read_text(encoding="utf-8"))
    assert all(target.startswith("#") for target in style)


def test_every_plot_says_what_it_shows(page: Reader) -> None:
    plots = [attributes for tag, attributes in page.attributes if tag == "svg"]
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 20 for plot in plots)


def test_ids_are_unique_and_links_lead_somewhere(page: Reader) -> None:
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.attributes if tag == "a"]
    assert {str(link)[1:] for link in links} <= set(ids)


def test_a_run_without_figures_has_a_page(tmp_path: Path) -> None:
    write_html(Results(ENVIRONMENT, ()), tmp_path / "empty.html")
    text = Reader((tmp_path / "empty.html").read_text()).text
    assert "VERDICT: nothing was compared" in text
    assert "No figure was measured." in text


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if installed() is None:
        pytest.skip("no Chromium on PATH: the page is not opened in a browser")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)], ids=["phone", "desktop"])
def test_a_browser_shows_it(tab: Browser, file: Path, width: int, height: int, dark: bool) -> None:
    """No message on the console, nothing asked of a network, nothing wider than the window, text on its background."""
    tab.open(file, width, height, dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.querySelector('h1').getBoundingClientRect().bottom") < height / 2
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    text = tab.evaluate("getComputedStyle(document.body).color")
    assert (_lightness(background) < 0.2, _lightness(text) > 0.8) == (dark, dark)
    assert tab.evaluate("document.querySelector('details[open] summary').textContent").endswith("not pass")
    assert [event["params"]["request"]["url"] for event in tab.said("Network.requestWillBeSent")] == [
        file.as_uri()
    ]
    for message in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
        assert not tab.said(message)


def _lightness(color: str) -> float:
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", color)[:3])
    return (red + green + blue) / 3
