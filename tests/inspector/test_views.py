from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from langchain_core.messages import AIMessage

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.inspector.export import render_page, run_record
from smoothguard_guardrail.inspector.run import GuardedRun, record
from smoothguard_guardrail.inspector.views import groups_of, headline, render_message, render_run
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.helpers import question

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e${alert(3)}{{ 7 * 7 }}"
CONFIG = SmoothGuardConfig(num_samples=8, early_stop=None, seed=0, max_concurrency=1)


def finished(*answers: str, **changes: object) -> GuardedRun:
    return list(record(ScriptedChatModel(script=answers), question(), CONFIG.override(**changes)))[-1]


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    found: list[tuple[str, dict[str, str | None]]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Collector().feed(html)
    return found


def shown(run: GuardedRun) -> str:
    return render_run(run, embedder=WordEmbeddings())


def test_every_answer_copy_and_group_is_shown() -> None:
    run = finished("It is red.", "It is red.", "It is blue.", "I can't help with that.")
    html = shown(run)
    assert run.result is not None
    groups = groups_of(run.result, run.config)
    assert sorted((group.size, group.stance) for group in groups) == [(2, "answers"), (2, "refuses"), (4, "answers")]
    assert sum(group.won for group in groups) == 1
    assert html.count('class="bar"') == 3
    assert html.count('<figure class="sample') == 9
    assert html.count("data:image/png") == 17  # the original, eight copies and what they change
    assert 'aria-label="50 percent"' in html


@pytest.mark.parametrize("where", ["answers", "question", "failure"])
def test_hostile_texts_stay_texts(where: str) -> None:
    texts = {"answers": [HOSTILE], "question": ["A."], "failure": ["A.", "A.", ValueError(HOSTILE)]}[where]
    asked = question()
    if where == "question":
        asked[0].content[0]["text"] = HOSTILE  # type: ignore[index]
    run = list(record(ScriptedChatModel(script=texts), asked, CONFIG))[-1]
    assert run.result is not None
    html = shown(run)
    page = render_page(HOSTILE, {HOSTILE: html}, run_record(HOSTILE, run, run.result, CONFIG))  # type: ignore[dict-item]
    for text in (html, page, render_message(HOSTILE)):
        assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in tags(text)}
        for tag, attributes in tags(text):
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert tag != "img" or str(attributes["src"]).startswith("data:image/")
        assert "\u202e" not in text
        assert "alert(1)" in text


def test_the_exported_page_needs_nothing_else() -> None:
    run = finished("It is red.", "It is blue.")
    assert run.result is not None
    values = run_record("reference", run, run.result, run.config)
    page = render_page("A run", {"Guarded question": shown(run)}, values)  # type: ignore[dict-item]
    assert "default-src 'none'" in page
    for _, attributes in tags(page):
        for name in ("src", "href"):
            assert str(attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)", page)
    assert json.loads(json.dumps(values)) == values
    assert [sample["text"] for sample in values["samples"]] == ["It is red.", "It is blue."] * 4
    assert SmoothGuardConfig.model_validate(values["config"]) == run.config


def test_an_unfinished_run_shows_what_is_known() -> None:
    *unfinished, _ = record(ScriptedChatModel(script=["A."]), question(), CONFIG)
    html = render_run(unfinished[1])
    assert html.count("asking …") == 8
    assert "data-verdict" not in html
    assert "asking" not in render_run(unfinished[0])


@pytest.mark.parametrize(
    ("answers", "vote", "expected"),
    [
        (["It is red."], {}, ("Passed", "good")),
        (["I can't help with that."], {}, ("Refused by the vote", "stopped")),
        (["I can't help with that.", "A.", "B.", "C."], {"refusal_share": 0.25}, ("Refused by the vote", "stopped")),
        (["One.", "Two.", "Three.", "Four."], {}, ("Withheld: the answers disagree", "stopped")),
        (["One.", "Two.", "Three."], {"on_abstain": "answer"}, ("Answered, though the answers disagree", "stopped")),
    ],
)
def test_the_headline_says_what_happened(answers: list[str], vote: dict[str, str], expected: tuple[str, str]) -> None:
    result = finished(*answers, vote=vote).result
    assert result is not None
    assert headline(result) == expected


def test_the_map_is_there_when_wordings_differ() -> None:
    assert "<svg" in shown(finished("It is red.", "It is blue.")).partition('class="map"')[2]
    assert "All answers have one wording" in shown(finished("It is red."))


def test_suspicion_needs_a_clean_copy() -> None:
    assert "needs a clean copy" in shown(finished("A."))
    assert "needs a clean copy" not in shown(finished("A.", include_clean=True))


def test_figures_of_usage_are_shown() -> None:
    usage = {"input_tokens": 1000, "output_tokens": 20, "total_tokens": 1020}
    model = ScriptedChatModel(script=[AIMessage("A.", usage_metadata=usage)])
    run = list(record(model, question(), CONFIG))[-1]
    assert "8,000 in, 160 out" in shown(run)
