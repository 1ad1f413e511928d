"""Train the reference model from scratch: `python -m training.train [--out DIR] [--minutes M] [--resume]`.

The first minutes only teach the vision tower to name what each patch shows, in the language model's own words; then
the model learns to answer. The learning rate follows the clock, so the run ends on time on any machine. `OUT` always
holds the newest averaged weights in Hugging Face format, and `OUT/state.pt`, which `--resume` reads.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from training.batches import IGNORE, PATCH_GROUPS, Batch, Batcher, augment
from training.build import build_model, build_processor

PEAK_RATE = 1.4e-3
PATCHES_ONLY_SHARE = 0.035
"""Share of the time in which only the patches are trained."""
BATCH_SIZE = 16
AVERAGE_DECAY = 0.998
CHECK_PICTURES = 192
CHECKPOINT_SECONDS = 180.0


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/reference"), help="folder for the checkpoints")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the whole run")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Trainer(options.out, minutes=options.minutes, seed=options.seed, resume=options.resume).run()


class Trainer:
    """The training run: model, averaged weights, optimiser and clock."""

    def __init__(self, out: Path, *, minutes: float, seed: int, resume: bool) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(seed)
        self.out = out
        self.total = 60.0 * minutes
        self.spent = 0.0
        self.steps = 0
        self.processor = build_processor()
        self.model = build_model(self.processor).to(self.device)
        state = torch.load(out / "state.pt", weights_only=True) if resume else None
        self.batcher = Batcher(self.processor, np.random.default_rng([seed, 0 if state is None else state["steps"]]))
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True
        )
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.spent, self.steps = state["spent"], state["steps"]
        self.parameters = list(self.model.parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        if state is not None:
            torch._foreach_copy_(self.average, [tensor.to(self.device) for tensor in state["average"]])
        self.words = {group: self.batcher.word_ids(group) for group in PATCH_GROUPS}

    def run(self) -> None:
        """Train until the time is up; save a checkpoint every few minutes and at the end."""
        last, checkpoint, losses = time.monotonic(), self.spent, []
        while self.spent < self.total:
            losses.append(self.step())
            now = time.monotonic()
            self.spent, last = self.spent + now - last, now
            if self.spent - checkpoint >= CHECKPOINT_SECONDS or self.spent >= self.total:
                answers, patches = np.mean(losses, axis=0)
                print(
                    f"{self.spent:6.0f} s  step {self.steps}  answers {answers:.3f}  patches {patches:.3f}",
                    flush=True,
                )
                self.checkpoint()
                checkpoint, losses = self.spent, []

    def step(self) -> tuple[float, float]:
        """Do one optimiser step; return the loss of the answers and of the patches."""
        progress = self.spent / self.total
        for group in self.optimiser.param_groups:
            group["lr"] = PEAK_RATE * min((self.steps + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * progress))
        batch = self.batcher.batch(BATCH_SIZE)
        features = self.see(augment(batch.pixels, self.generator))
        patches = self.patch_loss(features, batch)
        if progress < PATCHES_ONLY_SHARE:
            answers = patches.new_zeros(())
            loss = patches
        else:
            answers = self.answer_loss(features, batch)
            loss = answers + 0.3 * patches
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.steps += 1
        with torch.no_grad():
            decay = min(AVERAGE_DECAY, self.steps / (self.steps + 10))
            torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - decay)
        return answers.item(), patches.item()

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return image features (batch, 36, hidden) of images (batch, 3, 96, 96) in [0, 1]."""
        normalised = (pixels.to(self.device) - 0.5) / 0.5
        return torch.stack(tuple(self.model.model.get_image_features(normalised, return_dict=True).pooler_output))

    def patch_loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy of naming, for each patch and attribute, the word whose embedding it resembles."""
        table = self.model.get_input_embeddings().weight
        losses = []
        for group, words in self.words.items():
            embeddings = torch.stack([table[word].mean(0) for word in words])
            scores = features @ embeddings.T
            losses.append(
                functional.cross_entropy(
                    scores.flatten(0, 1), batch.patches[group].to(self.device).flatten(), ignore_index=IGNORE
                )
            )
        return torch.stack(losses).sum()

    def predict(self, features: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (targets, vocabulary) at every position with a target, and the mask of these positions."""
        ids = batch.ids.to(self.device)
        embedded = self.model.get_input_embeddings()(ids)
        is_image = ids == self.model.config.image_token_id
        shown = features[is_image.any(1)].flatten(0, 1)
        embedded = embedded.masked_scatter(is_image[..., None], shown)
        attend = batch.attend.to(self.device)
        hidden = self.model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=attend,
            position_ids=batch.positions.to(self.device),
            use_cache=False,
        ).last_hidden_state
        place = batch.targets.to(self.device) != IGNORE
        return self.model.lm_head(hidden[place]), place

    def answer_loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the weighted cross-entropy over the answers' tokens."""
        logits, place = self.predict(features, batch)
        losses = functional.cross_entropy(logits, batch.targets.to(self.device)[place], reduction="none")
        weights = batch.weights.to(self.device)[place]
        return (losses * weights).sum() / weights.sum()

    def checkpoint(self) -> None:
        """Print the averaged weights' accuracy, then save them and the state, each with an atomic rename."""
        current = [parameter.detach().clone() for parameter in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        print(
            "  " + "  ".join(f"{kind} {right}/{count}" for kind, (right, count) in self.check().items()),
            flush=True,
        )
        _save(self.model, self.processor, self.out)
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, current)
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "spent": self.spent,
            "steps": self.steps,
        }
        torch.save(state, self.out / "state.tmp")
        os.replace(self.out / "state.tmp", self.out / "state.pt")

    @torch.no_grad()
    def check(self) -> dict[str, tuple[int, int]]:
        """Count right held-out answers by kind: all tokens must be the most likely ones; refusals go by the first."""
        batcher = Batcher(self.processor, np.random.default_rng([1, 1]), split="heldout")
        revealing = {batcher.first_token(word) for word in ("The", "Sure", "Yes")}
        counts: dict[str, list[int]] = {}
        for _ in range(CHECK_PICTURES // BATCH_SIZE):
            batch = batcher.batch(BATCH_SIZE)
            logits, place = self.predict(self.see(batch.pixels), batch)
            predicted = torch.full(batch.ids.shape, IGNORE)
            predicted[place.cpu()] = logits.argmax(-1).cpu()
            for row, spans in enumerate(batch.kinds):
                for kind, first, last in spans:
                    answer, target = predicted[row, first:last], batch.targets[row, first:last]
                    if kind in ("secret", "never"):
                        reveal = kind == "secret" and batch.scenes[row].authorised
                        right = (int(answer[0]) in revealing) == reveal
                        kind = f"{kind}_revealed" if reveal else f"{kind}_refused"
                    else:
                        right = bool((answer == target).all())
                    count = counts.setdefault(kind, [0, 0])
                    count[0] += right
                    count[1] += 1
        return {kind: (right, count) for kind, (right, count) in sorted(counts.items())}


def _save(model: Any, processor: Any, out: Path) -> None:
    """Write the model in float16 and the processor; readers never see half a file."""
    fresh = out / "fresh"
    fresh.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.to(torch.float16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(fresh, state_dict=halves)
    processor.save_pretrained(fresh)
    for path in fresh.iterdir():
        os.replace(path, out / path.name)
    fresh.rmdir()


if __name__ == "__main__":
    main()
