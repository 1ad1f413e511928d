"""Certificates: what no change of a stated size to the images could have changed about an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from statistics import NormalDist

from langchain_core.messages import AIMessage, BaseMessage

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_classes import AnswerClass, class_names
from smoothguard_guardrail.core.components import CompleteComponents
from smoothguard_guardrail.core.effects import CallModel, Compute, Effects, Request
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.errors import ConfigurationError, QuorumError, UnsupportedMediaError
from smoothguard_guardrail.media import PreparedRequest, prepare
from smoothguard_guardrail.perturbations import CoverWindows, covering_windows, draw_seed
from smoothguard_guardrail.perturbations.cover import Window
from smoothguard_guardrail.result import NoiseCertificate, PatchCertificate, PatchDecision

_BATCH = 32
"""Copies that are made and asked at once."""
_SELECTION = 0.1
"""Share of the copies that choose the class; the others bound its probability."""


class Certifier:
    """Certifies answers about one request. It asks for effects as the guard's flow does, so the same drivers run it.

    Args:
        config: The guard's configuration.
        components: Its complete components.
        model_info: What the model reports about itself.
        messages: The request.
        by: What tells the classes of answers apart.
    """

    def __init__(
        self,
        config: SmoothGuardConfig,
        components: CompleteComponents,
        model_info: ModelInfo,
        *,
        messages: Sequence[BaseMessage],
        by: AnswerClass,
    ) -> None:
        self._config = config.override(include_clean=False)
        self._components = components
        self._model_info = model_info
        self._messages = messages
        self._by = by

    def noise(self, *, num_samples: int, alpha: float) -> Effects[NoiseCertificate]:
        """Certify a class of answers under Gaussian noise, by randomized smoothing.

        A tenth of the copies choose the class, the others bound its probability from below (Clopper and Pearson's exact
        bound at confidence 1 - alpha). Calls that fail count as another class.

        Source: Cohen et al. 2019, Certified adversarial robustness via randomized smoothing, theorem 1 and figure 1.
        """
        if num_samples < 10 or not 0 < alpha < 1:
            raise ConfigurationError(
                f"a certificate needs num_samples of at least 10 and alpha in (0, 1), got {num_samples} and {alpha}"
            )
        self._require_plain_noise()
        prepared = yield from self._prepare()
        seed = draw_seed() if self._config.seed is None else self._config.seed
        perturber = yield Compute(
            function=lambda: RequestPerturber(prepared, config=self._config, model_info=self._model_info, seed=seed)
        )
        names, answers = yield from self._ask(perturber.render, num_samples)
        num_selecting = max(1, round(_SELECTION * num_samples))
        chosen = Counter(name for name in names[:num_selecting] if name is not None).most_common(1)
        if not chosen:
            raise QuorumError(_failures(answers), successes=0, required=1)
        counted = names[num_selecting:]
        count = counted.count(chosen[0][0])
        bound = lower_bound(count, len(counted), alpha)
        certified = bound > 0.5
        return NoiseCertificate(
            answer_class=chosen[0][0],
            certified=certified,
            radius=self._config.sigma * NormalDist().inv_cdf(bound) if certified else 0.0,
            count=count,
            num_counted=len(counted),
            num_calls=num_samples,
            lower_bound=bound,
            alpha=alpha,
            sigma=self._config.sigma,
            noise_space=self._config.noise_space,
        )

    def patch(self, *, patch: float, per_axis: int) -> Effects[PatchCertificate]:
        """Certify a class of answers under patches: every pair of covered windows must leave the class unchanged.

        Source: Xiang et al. 2022, PatchCleanser (arXiv 2108.09135), theorem 1.
        """
        prepared, windows, size = yield from self._windows(patch, per_axis)
        pairs = [(window,) for window in windows] + list(combinations(windows, 2))
        names, _ = yield from self._ask_covered(prepared, pairs)
        certified = len(set(names)) == 1 and names[0] is not None
        return PatchCertificate(
            answer_class=Counter(name or "" for name in names[: len(windows)]).most_common(1)[0][0],
            certified=certified,
            patch_size=size,
            num_windows=len(windows),
            num_calls=len(pairs),
        )

    def decide(self, *, patch: float, per_axis: int) -> Effects[PatchDecision]:
        """Decide the class of the request's answer by covering windows, in two rounds.

        If one class of answers is certified for an image, the decision is that class for every image that differs from
        it within one patch of the same size only.

        Source: Xiang et al. 2022, PatchCleanser (arXiv 2108.09135), algorithm 1.
        """
        prepared, windows, _ = yield from self._windows(patch, per_axis)
        names, answers = yield from self._ask_covered(prepared, [(window,) for window in windows])
        majority = Counter(names).most_common(1)[0][0]
        num_calls = len(windows)
        chosen = names.index(majority)
        for index, name in enumerate(names):
            if name == majority or name is None:
                continue
            pairs = [(windows[index], other) for other in windows]
            second, _ = yield from self._ask_covered(prepared, pairs)
            num_calls += len(pairs)
            if set(second) == {name}:
                chosen = index
                break
        answer = answers[chosen]
        if isinstance(answer, Exception):
            raise QuorumError(
                _failures(answers), successes=len(answers) - len(_failures(answers)), required=len(answers) // 2 + 1
            )
        return PatchDecision(answer_class=str(names[chosen]), answer=answer, num_calls=num_calls)

    def _windows(self, patch: float, per_axis: int) -> Effects[tuple[PreparedRequest, list[Window], tuple[int, int]]]:
        if not 0 < patch <= 1:
            raise ConfigurationError(f"patch must be a share of the image's sides in (0, 1], got {patch}")
        prepared = yield from self._prepare()
        if len(prepared.media) != 1:
            raise ConfigurationError(f"a patch certificate is about one image, the request has {len(prepared.media)}")
        # One copy, only to learn the size at which images are perturbed.
        probe = yield Compute(
            function=lambda: RequestPerturber(prepared, config=self._config, model_info=self._model_info, seed=0)
        )
        width, height = probe.records()[0].perturbed_size
        size = (max(1, round(patch * height)), max(1, round(patch * width)))
        return prepared, covering_windows((height, width), size, per_axis), size

    def _ask_covered(
        self, prepared: PreparedRequest, covers: Sequence[Sequence[Window]]
    ) -> Effects[tuple[list[str | None], list[AIMessage | Exception]]]:
        def render(first_index: int, count: int) -> list[Request]:
            cover = CoverWindows(covers[first_index : first_index + count])
            components = replace(self._components, image_perturber=cover)
            perturber = RequestPerturber(
                prepared, config=self._config, model_info=self._model_info, components=components, seed=0
            )
            return perturber.render(0, count)

        return (yield from self._ask(render, len(covers)))

    def _ask(
        self, render: Callable[[int, int], list[Request]], num_samples: int
    ) -> Effects[tuple[list[str | None], list[AIMessage | Exception]]]:
        """Return the classes of the answers to all samples, None for failures, and the answers."""
        answers: list[AIMessage | Exception] = []
        for start in range(0, num_samples, _BATCH):
            requests = yield Compute(function=partial(render, start, min(_BATCH, num_samples - start)))
            answers += yield CallModel(requests=requests, first_index=start)
        messages = [answer for answer in answers if isinstance(answer, AIMessage)]
        found = yield Compute(function=lambda: class_names(self._by, messages, self._components.stance_classifier))
        names = iter(found)
        return [next(names) if isinstance(answer, AIMessage) else None for answer in answers], answers

    def _prepare(self) -> Effects[PreparedRequest]:
        sizing = ModelInput(config=self._config, model_info=self._model_info)
        prepared: PreparedRequest = yield Compute(
            function=lambda: prepare(self._messages, self._config.media, sizing), waits=True
        )
        if not prepared.media or any(medium.kind != "image" for medium in prepared.media):
            found = ", ".join(sorted({medium.kind for medium in prepared.media})) or "no media"
            raise UnsupportedMediaError(f"a certificate is about images, the request has {found}", path="messages")
        return prepared

    def _require_plain_noise(self) -> None:
        image = self._config.image
        if self._components.image_perturber is not None or image.max_shift or image.max_rotation or image.resize_range:
            raise ConfigurationError(
                "a noise certificate is about Gaussian noise alone: use a configuration with image.max_shift=0,"
                " image.max_rotation=0, image.resize_range=None and no image_perturber of your own"
            )


def lower_bound(count: int, total: int, alpha: float) -> float:
    """Return Clopper and Pearson's lower confidence bound of a probability, which holds with probability 1 - alpha.

    Example:
        >>> round(lower_bound(90, 90, 0.001), 3)
        0.926

    Source: Clopper and Pearson 1934, The use of confidence or fiducial limits.
    """
    from scipy.stats import beta

    return float(beta.ppf(alpha, count, total - count + 1)) if count else 0.0


def _failures(answers: Sequence[AIMessage | Exception]) -> list[Exception]:
    return [answer for answer in answers if isinstance(answer, Exception)]
