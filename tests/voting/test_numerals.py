"""Numbers in digits and in words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail.voting.numerals import number_groups, spelled_numbers
from smoothguard_guardrail.voting.statements import Statement

SPELLED = {
    17: "seventeen|siebzehn|diecisiete|dix-sept|dezessete|diciassette|семнадцать|十七|سبعة عشر|सत्रह|on yedi",
    42: "forty-two|zweiundvierzig|cuarenta y dos|quarante-deux|quarenta e dois|сорок два|四十二|बयालीस|kırk iki",
    37: "سبعة وثلاثون|سبع وثلاثين|सैंतीस|treinta y siete|trente-sept|siebenunddreißig",
    79: "seventy-nine|neunundsiebzig|setenta y nueve|soixante-dix-neuf|семьдесят девять|七十九|उनासी|yetmiş dokuz",
    71: "settantuno|soixante et onze|इकहत्तर|yetmiş bir",
    81: "eighty-one|einundachtzig|ochenta y uno|quatre-vingt-un|oitenta e um|восемьдесят один|八十一|seksen bir",
    305: "three hundred and five|dreihundertfünf|trescientos cinco|trois cent cinq|trezentos e cinco|trecentocinque",
    405: "четыреста пять|أربعمئة وخمسة|चार सौ पाँच|dört yüz beş",
    620: "six hundred twenty|sechshundertzwanzig|seiscientos veinte|six cent vingt|六百二十|altı yüz yirmi",
    2024: "two thousand and twenty-four|dos mil veinticuatro|deux mille vingt-quatre|iki bin yirmi dört",
}
WORDS = (
    "two",
    "twenty",
    "hundred",
    "thousand",
    "and",
    "one",
    "cent",
    "on",
    "bin",
    "十",
    "百",
    "vingt",
    "dix",
    "x",
    "7",
)


@pytest.mark.parametrize("number", SPELLED)
def test_numbers_in_words_are_the_number(number: int) -> None:
    for text in SPELLED[number].split("|"):
        assert Statement(text.strip()).words == (str(number),), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ten four", ["10", "4"]),
        ("ten and four", ["10", "and", "4"]),
        ("five six", ["5", "6"]),
        ("three and five", ["3", "and", "5"]),
        ("vierzig cent", ["40", "cent"]),
        ("five cents", ["5", "cents"]),
        ("once upon a page", ["once", "upon", "a", "page"]),
        ("i see on one page", ["i", "see", "on", "one", "page"]),
        ("gülen bir yüz", ["gülen", "bir", "yüz"]),
        ("un vélo neuf", ["un", "vélo", "neuf"]),
        ("hund und katze", ["hund", "und", "katze"]),
    ],
)
def test_other_words_stay_as_they_are(text: str, words: list[str]) -> None:
    assert spelled_numbers(text.split()) == words


@given(st.lists(st.sampled_from(WORDS)))
def test_reading_numbers_ends_and_loses_no_word(words: list[str]) -> None:
    found = spelled_numbers(words)
    assert len(found) <= len(words)
    assert [word for word in found if word == "x"] == [word for word in words if word == "x"]


@pytest.mark.parametrize("part", ["cento", "hundert", "und", "trent", "zehn", "-", "1.", "1,000"])
def test_endless_words_cost_no_time_and_no_stack(part: str) -> None:
    start = time.process_time()
    Statement(20_000 * part + "!x").words  # noqa: B018
    assert time.process_time() - start < 5


@given(st.integers(0, 10**6), st.integers(0, 99))
def test_equal_amounts_are_equal_however_written(whole: int, cents: int) -> None:
    written = {
        f"{whole}.{cents:02}",
        f"{whole},{cents:02}",
        f"{whole:,}.{cents:02}",
        f"{whole:,}".replace(",", ".") + f",{cents:02}",
    }
    assert len({number_groups(text) for text in written}) == 1


@given(st.tuples(st.integers(0, 999), st.integers(0, 99)), st.tuples(st.integers(0, 999), st.integers(0, 99)))
def test_different_amounts_differ(first: tuple[int, int], second: tuple[int, int]) -> None:
    ours, theirs = (number_groups(f"{whole}.{cents:02}") for whole, cents in (first, second))
    assert (ours == theirs) == (first == second)
