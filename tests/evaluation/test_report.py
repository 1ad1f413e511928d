"""Reports: no text escapes its place in the page, JSON keeps everything, and drawings agree with the figures."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
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
from smoothguard_guardrail.evaluation.report.formatting import cell_text, inline_markup, visible
from smoothguard_guardrail.evaluation.report.plots import draw_curve
from tests.evaluation.reports import HOSTILE, hostile_report, rich_report

TAGS = {
    *("html", "head", "meta", "title", "link", "style", "body", "header", "nav", "main", "section", "article"),
    *("h1", "h2", "h3", "h4", "p", "a", "ol", "ul", "li", "div", "span", "q", "em", "strong", "code", "pre"),
    *("figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "img"),
    *("svg", "g", "defs", "use", "clippath", "rect", "line", "circle", "path", "text"),
}
FORBIDDEN = {"style", "xlink:href", "srcset", "action"}
VOID = {"img", "link", "meta"}
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


curves = st.one_of(curves_over(numbers, False), curves_over(st.floats(0, 1e9, allow_subnormal=False), True))
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
    """Parses a page strictly: every element is closed, in order, and comments are refused."""

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
        assert len(names) == len(set(names)), f"a repeated attribute of {tag}: {names}"
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
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "xlink:href", "srcset", "action")
        ]
        assert "href" not in attributes or str(attributes["href"]).startswith("data:," if tag == "link" else "#")
        assert "src" not in attributes or attributes["src"] == PIXEL or tag == "img"
    assert len(list(page.all("style"))) == 1
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
    assert {str(each["href"])[1:] for tag in ("a", "use") for each in page.all(tag)} <= set(ids)
    return page


@pytest.mark.slow
@generated
@given(reports)
def test_no_text_of_a_report_escapes_its_place_in_the_page(report: Report) -> None:
    html = render_html(report)
    check_safe(html)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert not re.search(r'="[^"]*(nan|inf)\b[^"]*"', re.sub(r' alt="[^"]*"', "", html))


@pytest.mark.slow
@generated
@given(report=reports)
def test_report_comes_back_equal_from_json(report: Report) -> None:
    back = Report.model_validate_json(report.model_dump_json(indent=2))
    assert back == report
    assert back.model_dump_json() == report.model_dump_json()  # 1 and 1.0 are equal, and not the same


def test_hostile_texts_are_shown_word_for_word() -> None:
    page = check_safe(render_html(hostile_report()))
    for text in HOSTILE[:5]:
        assert text in page.text
    assert "[U+202E]evil[U+202C] [U+0000][U+0007]" in page.text


@pytest.mark.slow
def test_policy_allows_only_the_style_of_the_page(rich: Report) -> None:
    html = render_html(rich)
    page = Page(html)
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    style = html[html.index("<style>") + len("<style>") : html.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy is not None
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]
    assert "url(" not in style
    assert "@import" not in style


def test_page_has_one_title_a_language_and_alternative_text_for_every_image(rich: Report) -> None:
    page = Page(render_html(rich))
    assert [each["lang"] for each in page.all("html")] == ["en"]
    assert len(list(page.all("h1"))) == 1
    assert all(each["alt"] for each in page.all("img"))
    assert all(each.get("aria-hidden") == "true" or each.get("role") == "img" for each in page.all("svg"))


def test_written_files_are_the_rendered_page_and_the_same_report(tmp_path: Path, rich: Report) -> None:
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
def test_images_must_be_png_data_uris(uri: str) -> None:
    with pytest.raises(ValidationError, match="images"):
        Case(title="", question="", images={"original": uri}, answers=())


def test_inconsistent_content_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected 2 cells, one per column, got 1"):
        Table(title="", columns=("a", "b"), rows=(("1",),))
    with pytest.raises(ValidationError, match="finite"):
        Table(title="", columns=("a",), rows=((float("nan"),),))
    with pytest.raises(ValidationError, match="from 0 up"):
        Curve(title="", x_label="", y_label="", series=(Series(name="", points=(Point(x=-1, y=0),)),), log_x=True)
    with pytest.raises(ValidationError, match="one position"):
        ClusterMap(title="", positions=(), texts=("a",), counts=(1,), labels=(0,), winner=None)
    with pytest.raises(ValidationError, match="expected a JSON value"):
        Report(title="", summary=(), sections=(), environment={"a": [{"b": float("inf")}]})


# --------------------------------------------------------------------------------------------------------- formatting
def test_inline_markup_is_only_emphasis_strong_and_code() -> None:
    assert inline_markup("*a* **b** `c*d*`") == "<em>a</em> <strong>b</strong> <code>c*d*</code>"
    assert inline_markup("2 * 3 * 4, 2*3*4, [a](b), <i>") == "2 * 3 * 4, 2*3*4, [a](b), &lt;i&gt;"
    assert inline_markup("`<b>` *<i>*") == "<code>&lt;b&gt;</code> <em>&lt;i&gt;</em>"


@given(st.text())
def test_printable_text_stays_and_invisible_characters_become_code_points(text: str) -> None:
    shown = visible(text)
    assert all(each.isprintable() or each in "\n\t\u200c\u200d" or not each.isascii() for each in shown)
    if text.isprintable():
        assert shown == text


def test_cells_read_as_rates_numbers_and_dashes() -> None:
    shown = [cell_text(cell) for cell in (Rate(k=3, n=40), Rate(k=0, n=0), None, 1234, 0.98, 1e-9, "a")]
    assert shown == ["3/40 = 0.075 (0.026–0.199)", "–", "–", "1,234", "0.980", "1e-09", "a"]


def test_rates_differ_in_width_only_before_the_equals_sign() -> None:
    table = Table(title="", columns=("a", "b"), rows=(("x", Rate(k=3, n=40)), ("y", Rate(k=200, n=200))))
    found = re.findall(r'<span class="figures">(.*?)</span>\n?<svg', render_html(of_section(tables=(table,))))
    first, second = (re.sub("<.*?>", "", each) for each in found)
    assert first == "3/40 = 0.075 (0.026–0.199)"
    assert len(first.partition("=")[2]) == len(second.partition("=")[2])


# ----------------------------------------------------------------------------------------------------------- drawings
def of_section(**fields: Any) -> Report:
    return Report(title="", summary=(), sections=(Section(title="", **fields),), environment={})


def curve(*points: Point, **fields: Any) -> Curve:
    series = (Series(name="guarded", points=points),)
    return Curve(title="A curve", x_label="epsilon", y_label="rate", series=series, **fields)


def marks(page: Page) -> list[tuple[float, float]]:
    return [(float(str(each["x"])), float(str(each["y"]))) for each in page.all("use")]


def test_curve_draws_every_point_where_it_belongs() -> None:
    drawn = curve(Point(x=0, y=Rate(k=0, n=10)), Point(x=8, y=Rate(k=10, n=10)))
    page = Page(str(draw_curve(drawn, "key")))
    (x0, y0), (x1, y1) = marks(page)[-2:]
    assert (x0 < x1, y0 > y1) == (True, True)
    assert "guarded, 8: 10/10 = 1.000 (0.722–1.000)" in page.text
    page = Page(render_html(of_section(curves=(drawn,))))
    assert len(list(page.all("details"))) == 2  # the figures, and the environment


def test_logarithmic_axis_puts_equal_factors_equally_apart_and_zero_first() -> None:
    drawn = curve(*(Point(x=x, y=0.5) for x in (0, 1, 4, 16)), log_x=True)
    xs = [x for x, _ in marks(Page(str(draw_curve(drawn, "key"))))[-4:]]
    assert xs == sorted(xs)
    assert xs[0] < xs[1]
    assert xs[2] - xs[1] == pytest.approx(xs[3] - xs[2], rel=1e-3)


def test_curve_without_points_is_not_drawn() -> None:
    assert draw_curve(curve(Point(x=0, y=Rate(k=0, n=0))), "key") is None


def test_area_of_discs_is_the_count_and_the_winner_has_a_rim() -> None:
    drawn = ClusterMap(
        title="",
        positions=((0, 0), (1, 1), (0, 1)),
        texts=("a", "b", "c"),
        counts=(9, 1, 4),
        labels=(5, 3, 5),
        winner=5,
    )
    page = Page(render_html(of_section(maps=(drawn,))))
    colours = [each.get("fill") for each in page.all("use")]
    assert [colour for colour in colours if colour != "none"] == ["var(--c0)", "var(--c0)", "var(--c1)"]
    assert len([each for each in page.all("path") if each.get("stroke") == "var(--ink)"]) == 2
    discs = [str(each["d"]) for tag, each in page.tags if tag == "path" and "C" in str(each.get("d"))]
    widths = [np.ptp([float(x) for x in re.findall(r"[MLC ]*(-?[\d.]+) -?[\d.]+", disc)]) for disc in discs]
    nine, four, one = (widths[index] for index in (1, 3, 4))  # the elected cluster's discs follow their rims
    assert [(nine / one) ** 2, (four / one) ** 2] == pytest.approx([9, 4], rel=0.02)
    assert page.text.count("cluster 1, elected") == 2


def test_drawings_are_the_same_every_time_and_ignore_the_users_settings(rich: Report) -> None:
    import matplotlib as mpl

    first = render_html(rich)
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 40}):
        assert render_html(rich) == first
    assert "#0" not in "".join(re.findall(r'(?:fill|stroke)="([^"]*)"', first))  # every colour follows the scheme


def test_hostile_tooltips_stay_text() -> None:
    series = tuple(Series(name=text, points=(Point(x=1, y=0.5),)) for text in ("<script>", "a & b", '"$x$'))
    svg = str(draw_curve(Curve(title="", x_label="", y_label="", series=series), "key"))
    assert "&lt;script&gt;" in svg
    assert "a &amp; b" in svg
    assert "<script" not in svg


def test_import_is_light_and_only_drawings_need_matplotlib() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from smoothguard_guardrail.evaluation.report import Curve, Point, Report, Section, Series, render_html\n"
        "def page(**fields):\n"
        "    sections = (Section(title='', **fields),)\n"
        "    return render_html(Report(title='', summary=(), sections=sections, environment={}))\n"
        "page()\n"
        "series = (Series(name='', points=(Point(x=1, y=1),)),)\n"
        "try: page(curves=(Curve(title='', x_label='', y_label='', series=series),))\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "matplotlib is missing: pip install 'smoothguard-guardrail[eval]'\n"


# --------------------------------------------------------------------------------------------- projection and images
class Letters:
    """Embeds a text as the counts of three letters."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(text.count(letter)) for letter in "abc"] for text in texts]


def test_cluster_map_counts_wordings() -> None:
    made = cluster_map("letters", ["aab", "c", "aab", "b", "aab"], Letters(), [1, 0, 1, 1, 1], winner=1)
    assert made.texts == ("aab", "c", "b")
    assert (made.counts, made.labels, made.winner) == ((3, 1, 1), (1, 0, 1), 1)


@pytest.mark.parametrize("answers", [[], ["a"], ["", ""], ["a", "a"], ["a", "b"], ["", "abc", "c"]])
def test_positions_are_finite_and_centred_for_any_number_of_answers(answers: list[str]) -> None:
    positions = project_answers(answers, Letters())
    assert positions.shape == (len(answers), 2)
    assert np.abs(positions.sum(axis=0)).max() < 1e-9


def test_positions_keep_distances_within_a_plane() -> None:
    answers = ["aa", "bbb", "ab", ""]
    vectors = np.array(Letters().embed_documents(answers))
    positions = project_answers(answers, Letters())
    for one in range(4):
        for other in range(4):
            distance = np.linalg.norm(vectors[one] - vectors[other])
            assert np.linalg.norm(positions[one] - positions[other]) == pytest.approx(distance)


def test_cluster_map_refuses_missing_labels_and_broken_embedders() -> None:
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


def test_images_come_back_exactly_from_tensors_pillow_images_and_files(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(levels)
    image.save(tmp_path / "image.png")
    tensor = torch.from_numpy(levels).permute(2, 0, 1)
    for given_as in (image, tmp_path / "image.png", tensor, tensor.float() / 255):
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


def test_inputs_that_are_not_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    for wrong in (tmp_path / "text.png", tmp_path / "missing.png", torch.zeros(2, 3, 4, 4), torch.zeros(4, 4), None):
        with pytest.raises(InputError, match="image"):
            image_uri(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="at least 1"):
        image_uri(torch.zeros(3, 2, 2), enlargement=0)
    with pytest.raises(ConfigurationError, match="same size"):
        difference_uri(torch.zeros(3, 2, 2), torch.zeros(3, 2, 3))
