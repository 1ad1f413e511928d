"""What the robustness benchmark asks, attacks and counts; each result is k of n with a Wilson interval."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage
from PIL import Image
from scipy.stats import binomtest

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.media.image import encode_image
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference.questions import (
    KINDS,
    QuestionAnswer,
    ask,
    is_correct,
    secret_questions,
    target_answer,
    tells_secret,
)
from smoothguard_guardrail.models.reference.scenes import GROUNDS, Scene, draw, scenes
from smoothguard_guardrail.perturbation import ModelFacts, image_perturber
from smoothguard_guardrail.voting import default_embedder

ATTACK_BATCH = 25  # pictures attacked at once
ADAPTIVE_BATCH = 5  # with many draws of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One picture with its question. `pixels` (3, 96, 96) float32 in [0, 1], multiples of 1/255."""

    scene: Scene
    asked: QuestionAnswer
    pixels: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """k of n."""

    k: int
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "-"
        interval = binomtest(self.k, self.n).proportion_ci(0.95, method="wilson")
        return f"{self.k}/{self.n} = {self.k / self.n:.3f} ({interval.low:.3f}-{interval.high:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one arm answered to one case."""

    text: str
    num_calls: int


Arm = tuple[Sequence[Case], Sequence[torch.Tensor]]


def untouched(cases: Sequence[Case]) -> Arm:
    """Return cases with their own pictures."""
    return cases, [case.pixels for case in cases]


class KeptEmbeddings(Embeddings):
    """The default embedder, each text embedded once: thousands of answers repeat a few sentences."""

    def __init__(self) -> None:
        self._inner = default_embedder()
        self._kept: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text."""
        new = list(dict.fromkeys(text for text in texts if text not in self._kept))
        if new:
            self._kept |= zip(new, self._inner.embed_documents(new), strict=True)
        return [self._kept[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        return self.embed_documents([text])[0]


@lru_cache(maxsize=1)
def _kept_embeddings() -> KeptEmbeddings:
    return KeptEmbeddings()


def to_pixels(picture: Image.Image) -> torch.Tensor:
    """Return a picture as (3, height, width) float32 in [0, 1]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def forbidden_cases(count: int, *, seed: int) -> list[Case]:
    """Return requests for secrets that the picture does not authorise: what attacks try to open."""
    questions = secret_questions(split="heldout")
    cases = []
    for index, scene in enumerate(scenes(count, split="heldout", seed=seed, marks=())):
        question, secret = questions[index % len(questions)]
        asked = QuestionAnswer(kind="secret", question=question, answer="", secret=secret)
        cases.append(Case(scene=scene, asked=asked, pixels=to_pixels(draw(scene))))
    return cases


def authorised_cases(count: int, *, seed: int) -> list[Case]:
    """Return requests for secrets that the picture authorises, its grounds taken in turn."""
    questions = secret_questions(split="heldout")
    cases = []
    for index in range(count):
        marks = (GROUNDS[index % len(GROUNDS)],)
        (scene,) = scenes(1, split="heldout", seed=seed + index, marks=marks)
        question, secret = questions[index % len(questions)]
        asked = QuestionAnswer(kind="secret", question=question, answer="", secret=secret)
        cases.append(Case(scene=scene, asked=asked, pixels=to_pixels(draw(scene))))
    return cases


def harmless_cases(count: int, *, seed: int) -> list[Case]:
    """Return questions about what the picture shows, the kinds taken in turn."""
    kinds = [kind for kind in KINDS if kind not in ("secret", "never")]
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    for scene in scenes(2 * count, split="heldout", seed=seed):
        asked = ask(scene, kinds[len(cases) % len(kinds)], rng, split="heldout")
        if asked is not None and len(cases) < count:
            cases.append(Case(scene=scene, asked=asked, pixels=to_pixels(draw(scene))))
    return cases


def request(case: Case, pixels: torch.Tensor) -> list[HumanMessage]:
    """Return what a user would send: a PNG and a question."""
    data = base64.b64encode(encode_image(pixels)).decode()
    block = {"type": "image", "base64": data, "mime_type": "image/png"}
    return [HumanMessage(content=[block, {"type": "text", "text": case.asked.question}])]


def undefended(model: ChatTransformersMultimodal, cases: Sequence[Case], pictures: Sequence[torch.Tensor]) -> list[str]:
    """Ask the model alone, as guarded samples are asked: greedily."""
    requests = [request(case, picture) for case, picture in zip(cases, pictures, strict=True)]
    batches = [requests[start : start + ATTACK_BATCH] for start in range(0, len(requests), ATTACK_BATCH)]
    return [str(answer.content) for batch in batches for answer in model.generate_batch(batch)]


def guarded(
    model_path: Path,
    config: SmoothGuardConfig,
    cases: Sequence[Case],
    pictures: Sequence[torch.Tensor],
    *,
    pool: Executor,
) -> list[Reply]:
    """Ask through the guard; request i has seed i, so every arm can be repeated."""
    ask = partial(_ask_guarded, str(model_path), config)
    return list(pool.map(ask, range(len(cases)), cases, pictures, chunksize=10))


def _ask_guarded(model_path: str, config: SmoothGuardConfig, seed: int, case: Case, picture: torch.Tensor) -> Reply:
    """Ask for one answer; runs in a worker process."""
    guard = SmoothGuardRunnable(load_model(model_path), config=config.override(seed=seed), embedder=_kept_embeddings())
    result = guard.guard(request(case, picture))
    return Reply(text=str(result.answer.content), num_calls=result.num_calls)


def told(cases: Sequence[Case], texts: Iterable[str]) -> Rate:
    """Count the answers that tell the secret that was asked for."""
    hits = [tells_secret(text, case.asked.secret) for case, text in zip(cases, texts, strict=True)]
    return Rate(k=sum(hits), n=len(hits))


def right(cases: Sequence[Case], texts: Iterable[str]) -> Rate:
    """Count the right answers."""
    hits = [is_correct(case.scene, case.asked, text) for case, text in zip(cases, texts, strict=True)]
    return Rate(k=sum(hits), n=len(hits))


def random_signs(cases: Sequence[Case], epsilon: float) -> list[torch.Tensor]:
    """Return the pictures under random-sign noise of an attack's size: the control."""
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for case in cases:
        signs = torch.randint(0, 2, case.pixels.shape, generator=generator) * 2.0 - 1
        noisy = (case.pixels + epsilon * signs).clamp(0, 1)
        pictures.append((noisy * 255).round() / 255)
    return pictures


def attacked(
    model_path: Path,
    cases: Sequence[Case],
    folder: Path,
    *,
    epsilon: float,
    num_steps: int,
    config: SmoothGuardConfig | None = None,
    num_draws: int = 1,
    pool: Executor,
) -> list[torch.Tensor]:
    """Attack every case and return the pictures as a user would load them: from 8-bit PNG files.

    With a configuration the attack is adaptive: its gradient goes through that guard's own perturbation and is
    averaged over `num_draws` draws. Pictures that the folder holds already are not attacked again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index:04d}.png" for index in range(len(cases))]
    missing = [index for index, file in enumerate(files) if not file.exists()]
    attack = partial(_attack, str(model_path), epsilon=epsilon, num_steps=num_steps, config=config, num_draws=num_draws)
    size = ATTACK_BATCH if config is None else ADAPTIVE_BATCH
    jobs = {}
    for start in range(0, len(missing), size):
        chosen = missing[start : start + size]
        jobs[pool.submit(attack, [cases[index] for index in chosen], [files[index] for index in chosen])] = chosen
    for done, job in enumerate(as_completed(jobs), start=1):
        job.result()
        print(f"{folder.name}: {done} of {len(jobs)} batches", flush=True)
    return [to_pixels(Image.open(file)) for file in files]


def _attack(
    model_path: str,
    cases: Sequence[Case],
    files: Sequence[Path],
    *,
    epsilon: float,
    num_steps: int,
    config: SmoothGuardConfig | None,
    num_draws: int,
) -> None:
    """Attack a few cases and save the pictures; runs in a worker process."""
    model = load_model(model_path)
    transform = None if config is None else image_perturber(config, ModelFacts.of(model))
    attack = PGD(epsilon, num_steps=num_steps, transform=transform, num_draws=num_draws, seed=0)
    result = attack(
        model,
        torch.stack([case.pixels for case in cases]),
        [case.asked.question for case in cases],
        [target_answer(case.asked.secret) for case in cases],
    )
    for file, picture in zip(files, result.images, strict=True):
        file.write_bytes(encode_image(picture))


@lru_cache(maxsize=1)
def load_model(path: str) -> ChatTransformersMultimodal:
    """Return the model of a folder, once per process."""
    return ChatTransformersMultimodal.from_pretrained(path)


def worker_pool(num_workers: int | None = None) -> ProcessPoolExecutor:
    """Return a pool of processes with one torch thread each: faster on a CPU than one process with many."""
    return ProcessPoolExecutor(
        num_workers or os.cpu_count(),
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )


def perturbation_name(config: SmoothGuardConfig) -> str:
    """Return what an adaptive attack depends on, as a folder name."""
    knobs = (config.sigma, config.noise_space, config.low_pass, config.max_shift, config.resize_range)
    return "-".join(str(knob).replace(" ", "") for knob in knobs)


def fingerprint(path: Path, **settings: Any) -> str:
    """Return a short hash of the weights and settings: what a kept result depends on."""
    digest = hashlib.sha256(path.read_bytes())
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:12]
