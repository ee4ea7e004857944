"""A classifier, with or without the encoder it was fine-tuned from, as what reads texts and tells where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from potstill.analyse.attention.attribution import Attribution, rank_agreement
from potstill.analyse.attention.distance import TextMeasures, measure_text
from potstill.analyse.attention.integrated_gradients import attribute, has_captum
from potstill.analyse.attention.maps import attention_shape, open_attention, read_attention, require_same_heads
from potstill.analyse.attention.shown import ShownAttention, show_attention, tokens_that_fit
from potstill.analyse.attention.token_kinds import TokenReader
from potstill.data.tokens import EncodedTexts
from potstill.models.teacher import check_same_vocabulary, load_encoder, load_tokenizer
from potstill.records import Text
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.progress import counted


@dataclass(frozen=True)
class ExplainedText:
    """One text of n tokens, looked into.

    tokens: all spellings; attention: what a page can show. received: model → ``(layers, n)`` float32, the attention
    that each token receives, as a mean over heads and tokens. attribution: of output ``target``, None without captum;
    agreement: its rank correlation with what is received in the last layer of the classifier, special tokens left out.
    """

    tokens: list[str]
    attention: ShownAttention
    received: dict[str, np.ndarray]
    attribution: Attribution | None
    agreement: float | None


@dataclass(frozen=True)
class ObservedModels:
    """Models that read the same ids: the predictor, and by name (``before``, ``after``) whose attention is read."""

    predictor: TorchPredictor
    encoders: dict[str, PreTrainedModel]
    reader: TokenReader

    @classmethod
    def open(
        cls, run_folder: Path, *, before: str | None, max_length: int | None = None, device: str = "cpu"
    ) -> ObservedModels:
        """A finished classifier as ``after``, and the encoder ``before``, where one is named.

        Raises ``ModelError`` for what cannot be opened, for another vocabulary and for other layers or heads.
        """
        predictor = TorchPredictor.open(run_folder, max_length=max_length, device=device)
        encoders = {"after": open_attention(predictor.model)}
        if before is not None:
            check_same_vocabulary(load_tokenizer(before), predictor.tokenizer)
            encoder = load_encoder(before).to(torch.device(device))  # type: ignore[arg-type]
            require_same_heads(encoder, encoders["after"])
            encoders = {"before": open_attention(encoder), **encoders}
        return cls(predictor, encoders, TokenReader(predictor.tokenizer))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers, and of heads in each."""
        return attention_shape(self.encoders["after"])

    def encode(self, texts: Sequence[Text]) -> EncodedTexts:
        """The texts as the classifier reads them."""
        return self.predictor.tokenizer.encode(texts, self.predictor.max_length)

    def measure(self, encoded: EncodedTexts, window: int) -> Iterator[TextMeasures]:
        """The measures of each text in turn, as ``measure_text`` defines them; the maps of one are held at a time."""
        for row in counted(range(len(encoded)), len(encoded), "reading attention", "texts"):
            yield measure_text(self._maps(encoded, row), self.reader.kinds(encoded.row(row)), window)

    def explain(self, texts: Sequence[Text], targets: Sequence[int], most_tokens: int) -> list[ExplainedText]:
        """Each text looked into, and what its tokens add to its output of ``targets``.

        ``most_tokens`` of each are shown, fewer where all maps together would be too large for a page.
        """
        n_layers, n_heads = self.shape
        most = tokens_that_fit(most_tokens, len(texts), n_layers * n_heads * len(self.encoders))
        encoded = self.encode(texts)
        return [self._explain(encoded, row, target, most) for row, target in enumerate(targets)]

    def _maps(self, encoded: EncodedTexts, row: int) -> dict[str, np.ndarray]:
        pad_id = self.predictor.tokenizer.pad_id
        return {name: read_attention(encoder, encoded, row, pad_id) for name, encoder in self.encoders.items()}

    def _explain(self, encoded: EncodedTexts, row: int, target: int, most_tokens: int) -> ExplainedText:
        ids, maps = encoded.row(row), self._maps(encoded, row)
        received = {model: of_model.mean(axis=(1, 2)) for model, of_model in maps.items()}
        found, agreement = None, None
        if has_captum():
            found = attribute(self.predictor.model, encoded, row, self.predictor.tokenizer, target=target)
            agreement = rank_agreement(found.values, received["after"][-1], self.reader.is_special(ids))
        shown = show_attention(self.reader, ids, maps, most_tokens)
        return ExplainedText(self.reader.spell(ids), shown, received, found, agreement)
