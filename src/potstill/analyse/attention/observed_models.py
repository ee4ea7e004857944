"""A classifier, with or without the encoder it was fine-tuned from, as what reads texts and tells where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from potstill.analyse.attention.attribution import rank_agreement
from potstill.analyse.attention.distance import TextMeasures, join_windows, measure_text
from potstill.analyse.attention.integrated_gradients import attribute, has_captum
from potstill.analyse.attention.maps import attention_shape, open_attention, read_attention, require_same_heads
from potstill.analyse.attention.shown import ExplainedText, show_attention, tokens_that_fit
from potstill.analyse.attention.token_kinds import TokenReader
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.windows import WindowedTexts
from potstill.errors import ModelError
from potstill.models.teacher import check_same_vocabulary, load_encoder, load_tokenizer, longest_input
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.progress import counted


@dataclass(frozen=True)
class ObservedModels:
    """Models that read the same ids: the predictor, and by name (``before``, ``after``) whose attention is read."""

    predictor: TorchPredictor
    encoders: dict[str, PreTrainedModel]
    reader: TokenReader

    @classmethod
    def of(cls, predictor: TorchPredictor) -> ObservedModels:
        """The model of ``predictor`` as ``after``, its attention opened; ``ModelError`` for one that has none."""
        return cls(predictor, {"after": open_attention(predictor.model)}, TokenReader(predictor.tokenizer))

    def beside(self, before: str) -> ObservedModels:
        """The same, and as ``before`` the encoder of that name, folder or alias.

        Raises ``ModelError`` where it cannot be opened, cuts texts otherwise, or has other layers or heads.
        """
        _require_same_tokens(load_tokenizer(before), self.predictor.tokenizer)
        encoder = load_encoder(before)
        require_same_heads(encoder, self.encoders["after"])
        _require_length(encoder, self.predictor.max_length)
        encoder.to(self.predictor.model.device)
        return replace(self, encoders={"before": open_attention(encoder), **self.encoders})

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers, and of heads in each."""
        return attention_shape(self.encoders["after"])

    def measure(self, texts: WindowedTexts, reach: int) -> Iterator[TextMeasures]:
        """The measures of each text in turn, over all its windows, as ``measure_text`` defines them.

        The maps of one window are held at a time.
        """
        rows = counted(range(len(texts.rows)), len(texts.rows), "reading attention", "rows")
        for _, windows in groupby(rows, key=lambda row: int(texts.owners[row])):
            yield join_windows([self._measure(texts.rows, row, reach) for row in windows])

    def explain(
        self, texts: WindowedTexts, targets: Sequence[int], *, most_tokens: int, most_rows: int
    ) -> list[ExplainedText]:
        """Each text looked into, and what its tokens add to its output of ``targets``; a window stands for itself.

        ``most_tokens`` of each are shown, fewer where all maps together would be too large for a page, and of texts in
        windows so many windows that there are ``most_rows`` altogether: those whose outputs are the highest.
        """
        rows = self._chosen(texts, targets, most_rows)
        n_layers, n_heads = self.shape
        most = tokens_that_fit(most_tokens, len(rows), n_layers * n_heads * len(self.encoders))
        explained = counted(rows, len(rows), "looking into texts", "rows")
        return [self._explain(texts, row, targets[texts.owners[row]], most) for row in explained]

    def _maps(self, encoded: EncodedTexts, row: int) -> dict[str, np.ndarray]:
        pad_id = self.predictor.tokenizer.pad_id
        return {name: read_attention(encoder, encoded, row, pad_id) for name, encoder in self.encoders.items()}

    def _measure(self, encoded: EncodedTexts, row: int, reach: int) -> TextMeasures:
        return measure_text(self._maps(encoded, row), self.reader.kinds(encoded.row(row)), reach)

    def _chosen(self, texts: WindowedTexts, targets: Sequence[int], most_rows: int) -> list[int]:
        """The rows to look into, in their order: all, or of each text as many as there is room for."""
        if len(texts.rows) <= most_rows:
            return list(range(len(texts.rows)))
        outputs = self.predictor.logits_of(texts.rows)
        room, chosen = max(1, most_rows // len(targets)), []
        for text, target in enumerate(targets):
            windows = np.flatnonzero(texts.owners == text)
            likeliest = np.argsort(-outputs[windows, target], kind="stable")[:room]
            chosen += sorted(windows[likeliest].tolist())
        return chosen

    def _explain(self, texts: WindowedTexts, row: int, target: int, most_tokens: int) -> ExplainedText:
        text = int(texts.owners[row])
        windows = np.flatnonzero(texts.owners == text)
        ids, maps = texts.rows.row(row), self._maps(texts.rows, row)
        received = {model: of_model.mean(axis=(1, 2)) for model, of_model in maps.items()}
        found, agreement = None, None
        if has_captum():
            found = attribute(self.predictor.model, texts.rows, row, self.predictor.tokenizer, target=target)
            agreement = rank_agreement(found.values, received["after"][-1], self.reader.is_special(ids))
        return ExplainedText(
            text=text,
            window=row - int(windows[0]),
            n_windows=len(windows),
            tokens=self.reader.spell(ids),
            attention=show_attention(self.reader, ids, maps, most_tokens),
            received=received,
            attribution=found,
            agreement=agreement,
        )


def _require_length(before: PreTrainedModel, n_tokens: int) -> None:
    if longest_input(before) < n_tokens:
        raise ModelError(
            "the encoder before takes shorter texts than the run reads", found=longest_input(before), allowed=n_tokens
        )


def _require_same_tokens(before: PreTrainedTokenizerFast, after: TextTokenizer) -> None:
    try:
        check_same_vocabulary(before, after)
    except ModelError as error:
        raise ModelError("the two have different vocabularies, or cut texts differently", found=error.found) from error
