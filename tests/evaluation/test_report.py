"""Reports: nothing breaks out of the page, nothing is lost in JSON, and drawings say what the figures say."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from smoothguard_guardrail.errors import AdapterError, ConfigurationError, InputError
from smoothguard_guardrail.evaluation import Rate
from smoothguard_guardrail.evaluation.report import (
    Answers,
    Case,
    ClusterMap,
    Curve,
    Point,
    Report,
    Section,
    Series,
    Table,
    cluster_map,
    difference_uri,
    image_uri,
    project_answers,
    render_html,
    write_report,
)
from smoothguard_guardrail.evaluation.report.markup import VOID, element, escaped, marked_up
from smoothguard_guardrail.evaluation.report.numbers import at_the_point, cell_text
from smoothguard_guardrail.evaluation.report.scales import across, along, nice_ticks
from tests.evaluation.reports import HOSTILE, hostile_report, rich_report

TAGS = {
    *("html", "head", "meta", "title", "link", "style", "body", "header", "nav", "main", "section", "article"),
    *("h1", "h2", "h3", "h4", "p", "a", "ol", "ul", "li", "div", "span", "q", "em", "strong", "code", "pre"),
    *("figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "img"),
    *("svg", "g", "desc", "line", "circle", "path", "polyline", "polygon", "text"),
}
PIXEL = image_uri(Image.new("RGB", (8, 8), "red"))

# ---------------------------------------------------------------------------------------------------------- generated
texts = st.one_of(st.text(max_size=12), st.sampled_from(HOSTILE))
rates = st.integers(0, 300).flatmap(lambda n: st.builds(Rate, k=st.integers(0, n), n=st.just(n)))
numbers = st.floats(-1e9, 1e9)
cells = st.one_of(rates, st.floats(allow_nan=False, allow_infinity=False), st.integers(), texts, st.none())


def tuples(of: st.SearchStrategy[Any], max_size: int = 3, min_size: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=min_size, max_size=max_size).map(tuple)


tables = st.integers(1, 3).flatmap(
    lambda width: st.builds(
        Table,
        title=texts,
        columns=tuples(texts, width, width),
        rows=tuples(tuples(cells, width, width)),
        note=texts,
    )
)


def curves_over(x: st.SearchStrategy[float], log_x: bool) -> st.SearchStrategy[Curve]:
    points = st.builds(Point, x=x, y=st.one_of(rates, numbers))
    series = st.builds(Series, name=texts, points=tuples(points, 4))
    return st.builds(
        Curve, title=texts, x_label=texts, y_label=texts, series=tuples(series), log_x=st.just(log_x), note=texts
    )


curves = st.one_of(curves_over(numbers, False), curves_over(st.floats(0, 1e9), True))
wordings = st.tuples(st.tuples(numbers, numbers), texts, st.integers(1, 99), st.integers(-2, 9))
maps = st.builds(
    lambda title, of, winner: ClusterMap(
        title=title,
        positions=tuple(each[0] for each in of),
        texts=tuple(each[1] for each in of),
        counts=tuple(each[2] for each in of),
        labels=tuple(each[3] for each in of),
        winner=winner,
    ),
    texts,
    tuples(wordings, 5),
    st.none() | st.integers(-2, 9),
)
cases = st.builds(
    Case,
    title=texts,
    question=texts,
    images=st.dictionaries(texts, st.just(PIXEL), max_size=2),
    answers=tuples(st.builds(Answers, arm=texts, answer=texts, samples=tuples(texts), verdict=texts)),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
reports = st.builds(
    Report,
    title=texts,
    summary=tuples(texts),
    sections=tuples(
        st.builds(
            Section,
            title=texts,
            text=tuples(texts, 2),
            tables=tuples(tables, 2),
            curves=tuples(curves, 2),
            maps=tuples(maps, 2),
            cases=tuples(cases, 2),
        ),
        2,
    ),
    environment=st.dictionaries(texts, json_values, max_size=3),
)
generated = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def rich() -> Report:
    return rich_report()


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} stands twice: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)


def check_safe(html: str) -> Page:
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= TAGS
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "xlink:href", "srcset")]
        assert "href" not in attributes or str(attributes["href"]).startswith("#" if tag == "a" else "data:,")
        assert "src" not in attributes or attributes["src"] == PIXEL or tag == "img"
    assert len(list(page.all("style"))) == 1
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
    assert {str(each["href"])[1:] for each in page.all("a")} <= set(ids)
    return page


@generated
@given(reports)
def test_nothing_that_a_report_says_breaks_out_of_the_page(report: Report) -> None:
    html = render_html(report)
    check_safe(html)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert not re.search(r'="[^"]*(nan|inf)\b[^"]*"', re.sub(r' alt="[^"]*"', "", html))


@generated
@given(report=reports)
def test_report_comes_back_equal_from_json(report: Report) -> None:
    back = Report.model_validate_json(report.model_dump_json(indent=2))
    assert back == report
    assert back.model_dump_json() == report.model_dump_json()  # 1 and 1.0 are equal, and not the same


def test_hostile_answers_are_shown_as_they_are() -> None:
    page = check_safe(render_html(hostile_report()))
    for text in HOSTILE[:5]:
        assert text in page.text
    assert "[U+202E]evil[U+202C] [U+0000][U+0007]" in page.text


def test_policy_allows_the_page_its_own_style_alone(rich: Report) -> None:
    html = render_html(rich)
    page = Page(html)
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    style = html[html.index("<style>") + len("<style>") : html.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy is not None
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]
    assert "url(" not in style
    assert "@import" not in style


def test_page_has_one_title_a_language_and_an_alternative_for_every_picture(rich: Report) -> None:
    page = Page(render_html(rich))
    assert [each["lang"] for each in page.all("html")] == ["en"]
    assert len(list(page.all("h1"))) == 1
    assert all(each["alt"] for each in page.all("img"))
    assert all(each.get("aria-hidden") == "true" or each.get("role") == "img" for each in page.all("svg"))


def test_written_report_is_the_rendered_one_and_reads_back(tmp_path: Path, rich: Report) -> None:
    page, data = write_report(rich, tmp_path / "new" / "folder")
    assert (page.name, data.name) == ("report.html", "report.json")
    assert page.read_text(encoding="utf-8") == render_html(rich)
    assert Report.model_validate_json(data.read_bytes()) == rich


# ------------------------------------------------------------------------------------------------------------ content
@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.png",
        "javascript:alert(1)",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0PjEyMzQ1Njc4OTA=",
        f'{PIXEL}" onload="alert(1)',
        f"{PIXEL}\n",
        PIXEL.replace("image/png", "image/png;x=y"),
    ],
)
def test_only_png_files_are_pictures(uri: str) -> None:
    with pytest.raises(ValidationError, match="pictures"):
        Case(title="", question="", images={"original": uri}, answers=())


def test_content_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="does not fit 2 columns"):
        Table(title="", columns=("a", "b"), rows=(("1",),))
    with pytest.raises(ValidationError, match="finite"):
        Table(title="", columns=("a",), rows=((float("nan"),),))
    with pytest.raises(ValidationError, match="below 0"):
        Curve(title="", x_label="", y_label="", series=(Series(name="", points=(Point(x=-1, y=0),)),), log_x=True)
    with pytest.raises(ValidationError, match="one place"):
        ClusterMap(title="", positions=(), texts=("a",), counts=(1,), labels=(0,), winner=None)
    with pytest.raises(ValidationError, match="no JSON"):
        Report(title="", summary=(), sections=(), environment={"a": [{"b": float("inf")}]})


# ------------------------------------------------------------------------------------------------------------- markup
def test_markup_is_emphasis_strong_and_code_alone() -> None:
    assert marked_up("*a* **b** `c*d*`") == "<em>a</em> <strong>b</strong> <code>c*d*</code>"
    assert marked_up("2 * 3 * 4, 2*3*4, [a](b), <i>") == "2 * 3 * 4, 2*3*4, [a](b), &lt;i&gt;"
    assert marked_up("`<b>` *<i>*") == "<code>&lt;b&gt;</code> <em>&lt;i&gt;</em>"


def test_elements_escape_contents_and_attributes() -> None:
    made = element("p", "<b>", element("i", "'"), None, title='"', hidden=None, x=0.5)
    assert made == '<p title="&quot;" x="0.5">&lt;b&gt;<i>&#x27;</i></p>'


@given(st.text())
def test_escaped_text_reads_back(text: str) -> None:
    page = Page(f"<p>{escaped(text)}</p>")
    if text.isprintable():
        assert page.text == text


# ------------------------------------------------------------------------------------------------- numbers and tables
def test_cells_read_as_rates_numbers_and_dashes() -> None:
    shown = [cell_text(cell) for cell in (Rate(k=3, n=40), Rate(k=0, n=0), None, 1234, 0.98, 1e-9, "a")]
    assert shown == ["3/40 = .075 (.026–.199)", "–", "–", "1,234", "0.980", "1e-09", "a"]


def test_rates_of_a_column_align_at_every_part() -> None:
    column = (Rate(k=3, n=40), Rate(k=200, n=200), Rate(k=0, n=0))
    report = Report(
        title="",
        summary=(),
        sections=(Section(title="", tables=(Table(title="", columns=("a", "b"), rows=[("x", r) for r in column]),)),),
        environment={},
    )
    found = re.findall(r'<span class="figures">(.*?)</span><svg', render_html(report))
    first, second = (re.sub("<.*?>", "", each) for each in found)
    assert len(first) == len(second)
    assert first.replace("\u2007", "") == "3/40 = .075 (.026–.199)"
    assert first.index("=") == second.index("=")
    assert first.index(".075") + 4 == second.index("1.000") + 5


def test_numbers_are_padded_behind_the_point() -> None:
    assert at_the_point(["11", "7.300", "–"]) == ["11\u2008\u2007\u2007\u2007", "7.300", "–"]
    assert at_the_point(["11", "7"]) == ["11", "7"]


# ----------------------------------------------------------------------------------------------------------- drawings
@given(st.lists(numbers, min_size=1, max_size=12), st.booleans())
def test_scales_keep_the_order_and_stay_inside(values: list[float], shares: bool) -> None:
    measured = along(values, start=200, end=10, shares=shares)
    was_set = across(values, start=40, end=470)
    ordered = sorted(values)
    assert all(10 - 1e-6 <= measured(value) <= 200 + 1e-6 for value in [*values, *measured.ticks])
    assert all(40 - 1e-6 <= was_set(value) <= 470 + 1e-6 for value in [*values, *was_set.ticks])
    assert sorted(was_set(value) for value in values) == [was_set(value) for value in ordered]
    assert sorted((measured(value) for value in values), reverse=True) == [measured(value) for value in ordered]


def test_logarithmic_scale_puts_equal_factors_equally_apart_and_zero_first() -> None:
    scale = across([0, 1, 4, 16], start=0, end=300, log=True)
    assert [scale(value) for value in (0, 1, 4, 16)] == pytest.approx([0, 100, 200, 300])
    assert scale.ticks == (0, 1, 4, 16)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.37), (-3, 1211), (0, 1e-7)])
def test_ticks_are_few_even_and_enclose(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 4 <= len(ticks) <= 13
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert np.ptp(np.diff(ticks)) == pytest.approx(0, abs=1e-9 * (high - low))


def test_curve_draws_every_point_where_it_belongs() -> None:
    series = Series(name="guarded", points=(Point(x=0, y=Rate(k=0, n=10)), Point(x=8, y=Rate(k=10, n=10))))
    curve = Curve(title="A curve", x_label="epsilon", y_label="rate", series=(series,))
    html = render_html(Report(title="", summary=(), sections=(Section(title="", curves=(curve,)),), environment={}))
    page = Page(html)
    line = next(str(each["points"]) for each in page.all("polyline"))
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in line.split())
    assert (x0 < x1, y0 > y1) == (True, True)
    assert "guarded, 8: 10/10 = 1.000 (.722–1.000)" in page.text
    assert len(list(page.all("details"))) == 2  # the figures, and the environment


def test_area_of_discs_is_the_count_and_winners_have_a_rim() -> None:
    drawn = ClusterMap(
        title="",
        positions=((0, 0), (1, 1), (0, 1)),
        texts=("a", "b", "c"),
        counts=(9, 1, 4),
        labels=(5, 3, 5),
        winner=5,
    )
    html = render_html(Report(title="", summary=(), sections=(Section(title="", maps=(drawn,)),), environment={}))
    page = Page(html)
    circles = list(page.all("circle"))
    areas = [float(str(each["r"])) ** 2 for each in circles if each["class"] == "disc"]
    assert [area / areas[-1] for area in areas] == pytest.approx([9, 4, 1], rel=0.01)
    assert [each["class"] for each in circles] == ["rim", "disc", "rim", "disc", "disc"]
    assert page.text.count("cluster 1, elected") == 2


# --------------------------------------------------------------------------------------------- helpers that make parts
class Letters:
    """Embeds a text as how often it has each of three letters."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(text.count(letter)) for letter in "abc"] for text in texts]


def test_cluster_map_counts_wordings() -> None:
    made = cluster_map("letters", ["aab", "c", "aab", "b", "aab"], Letters(), [1, 0, 1, 1, 1], winner=1)
    assert made.texts == ("aab", "c", "b")
    assert (made.counts, made.labels, made.winner) == ((3, 1, 1), (1, 0, 1), 1)


@pytest.mark.parametrize("answers", [[], ["a"], ["", ""], ["a", "a"], ["a", "b"], ["", "abc", "c"]])
def test_places_are_finite_and_centred_for_any_number_of_answers(answers: list[str]) -> None:
    places = project_answers(answers, Letters())
    assert places.shape == (len(answers), 2)
    assert np.abs(places.sum(axis=0)).max() < 1e-9


def test_places_keep_distances_within_a_plane() -> None:
    answers = ["aa", "bbb", "ab", ""]
    vectors = np.array(Letters().embed_documents(answers))
    places = project_answers(answers, Letters())
    for one in range(4):
        for other in range(4):
            distance = np.linalg.norm(vectors[one] - vectors[other])
            assert np.linalg.norm(places[one] - places[other]) == pytest.approx(distance)


def test_cluster_map_refuses_what_does_not_fit() -> None:
    class Broken:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[0.0]]

    with pytest.raises(ConfigurationError, match="one label per answer"):
        cluster_map("", ["a", "b"], Letters(), [0], winner=None)
    with pytest.raises(AdapterError, match="2 texts"):
        cluster_map("", ["a", "b"], Broken(), [0, 1], winner=None)


def pixels(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_pictures_come_back_exactly_from_tensors_images_and_files(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(levels)
    image.save(tmp_path / "picture.png")
    tensor = torch.from_numpy(levels).permute(2, 0, 1)
    for given_as in (image, tmp_path / "picture.png", tensor, tensor.float() / 255):
        assert (pixels(image_uri(given_as)) == levels).all()
    assert pixels(image_uri(tensor[:1].float() / 255)).shape == (5, 7, 3)


def test_enlargement_repeats_pixels() -> None:
    enlarged = pixels(image_uri(torch.tensor([[[0.0, 1.0]]]), enlargement=3))
    assert (enlarged[..., 0] == [[0, 0, 0, 255, 255, 255]] * 3).all()


def test_difference_is_amplified_about_grey_and_clipped() -> None:
    original = torch.full((3, 1, 3), 100 / 255)
    changed = original + torch.tensor([0, 8, 64]) / 255
    assert pixels(difference_uri(original, changed))[0, :, 0].tolist() == [128, 160, 255]
    assert pixels(difference_uri(original, changed, amplification=1))[0, :, 0].tolist() == [128, 136, 192]


def test_pictures_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for wrong in (tmp_path / "text.png", tmp_path / "missing.png", torch.zeros(2, 3, 4, 4), torch.zeros(4, 4), None):
        with pytest.raises(InputError, match="picture"):
            image_uri(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="whole number"):
        image_uri(torch.zeros(3, 2, 2), enlargement=0)
    with pytest.raises(ConfigurationError, match="one size"):
        difference_uri(torch.zeros(3, 2, 2), torch.zeros(3, 2, 3))
