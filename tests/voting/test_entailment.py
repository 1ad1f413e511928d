"""A real, tiny model for natural language inference, fitted in a second on eight words."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from smoothguard_guardrail import GuardComponents, SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.testing import ScriptedChatModel
from smoothguard_guardrail.voting import BidirectionalEntailment, EquivalenceClusterer
from smoothguard_guardrail.voting.entailment import entailment_index
from tests.helpers import question

HYPERNYMS = {"sofa": "seat", "couch": "seat", "puppy": "animal", "whelp": "animal", "seat": None, "animal": None}
SYNONYMS = ({"sofa", "couch"}, {"puppy", "whelp"})
WORDS = tuple(HYPERNYMS)
LABELS = {0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"}
MAX_TOKENS = 24


def entails(premise: str, hypothesis: str) -> bool:
    return premise == hypothesis or {premise, hypothesis} in SYNONYMS or HYPERNYMS[premise] == hypothesis


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model that has learnt which of the words entail which."""
    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=MAX_TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.2,
            id2label=LABELS,
        )
    )
    pairs = list(itertools.product(WORDS, WORDS))
    batch = tokenizer([pair[0] for pair in pairs], [pair[1] for pair in pairs], return_tensors="pt")
    labels = torch.tensor([1 if entails(*pair) else 2 for pair in pairs])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("nli")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def equivalence(folder: Path) -> BidirectionalEntailment:
    return BidirectionalEntailment.load(str(folder))


def test_both_must_entail_each_other(equivalence: BidirectionalEntailment) -> None:
    pairs = list(itertools.product(WORDS, WORDS))
    for (first, second), probability in zip(pairs, equivalence(pairs), strict=True):
        assert (probability > 0.5) == (entails(first, second) and entails(second, first)), (first, second)


@given(st.lists(st.tuples(*[st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)] * 2), min_size=1, max_size=5))
@settings(max_examples=25)
def test_neither_order_nor_batches_matter(equivalence: BidirectionalEntailment, pairs: list[tuple[str, str]]) -> None:
    found = equivalence(pairs)
    assert all(0 <= probability <= 1 for probability in found)
    assert equivalence([pair[::-1] for pair in pairs]) == pytest.approx(found, abs=1e-5)
    assert [equivalence([pair])[0] for pair in pairs] == pytest.approx(found, abs=1e-5)


def test_no_tail_is_cut_off(equivalence: BidirectionalEntailment) -> None:
    beginning = "sofa " * 3 * MAX_TOKENS
    same, other = equivalence(
        [(beginning + "sofa", beginning + "couch"), (beginning + "sofa", beginning + "puppy " * 9)]
    )
    assert same > 0.5 > other


def test_the_label_order_is_the_models(folder: Path) -> None:
    reordered = BertForSequenceClassification.from_pretrained(folder, id2label={0: "entailment", 1: "no", 2: "neutral"})
    equivalence = BidirectionalEntailment.load(str(folder))
    other = BidirectionalEntailment(reordered, equivalence._tokenizer)
    assert equivalence([("sofa", "sofa")])[0] > 0.5 > other([("sofa", "sofa")])[0]


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["entailment", "entailed"], ["not_entailment"], []])
def test_a_model_without_one_entailment_label_is_rejected(labels: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="id2label"):
        entailment_index(dict(enumerate(labels)))
    assert entailment_index({0: "not_entailment", 1: "entailment"}) == 1


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        BidirectionalEntailment.load(str(tmp_path))


def test_threads_share_one_model(equivalence: BidirectionalEntailment) -> None:
    pairs = [(first, second) for first, second in itertools.product(WORDS, WORDS)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(equivalence, [pairs[:size] for size in range(1, 25)]))
    expected = equivalence(pairs)
    for found in results:
        assert found == pytest.approx(expected[: len(found)], abs=1e-5)


def test_a_guard_votes_by_entailment(equivalence: BidirectionalEntailment) -> None:
    answers = ["sofa", "couch", "sofa", "couch", "couch", "puppy", "seat", "animal"]
    guard = SmoothGuardRunnable(
        ScriptedChatModel(script=answers),
        SmoothGuardConfig(num_samples=8, early_stop=None),
        components=GuardComponents(clusterer=EquivalenceClusterer(equivalence)),
    )
    result = guard.guard(question())
    assert result.agreement == 5 / 8
    assert sorted(cluster.size for cluster in result.clusters) == [1, 1, 1, 5]
