"""A fine-tuned transformers model behind the ``Predictor`` protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from potstill.data.batches import pad_rows
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.windows import UNCUT, WindowedTexts, Windows, cut_windows, pool_windows, single_texts
from potstill.decisions import Decisions, read_decisions
from potstill.errors import ModelError
from potstill.models.long_texts import windows_of
from potstill.models.teacher import (
    check_vocabulary_fits,
    longest_input,
    open_classifier,
    resolve_model,
    select_inputs,
)
from potstill.records import Predictions, ProblemType, Text

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The precisions a model can be run in, by name."""


class TorchPredictor:
    """Classifies texts with a torch model; results come in the order of the texts, whatever order they were run in.

    Texts are sorted by length inside, so that little is padded; neither padding nor the company of other texts changes
    a logit by more than rounding. Texts longer than ``max_length`` tokens are cut and marked as truncated, or read in
    windows where the model was trained on those.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TextTokenizer,
        label_names: Sequence[str],
        problem_type: ProblemType,
        max_length: int | None = None,
        batch_size: int = 32,
        decisions: Decisions | None = None,
        windows: Windows | None = None,
    ) -> None:
        """Take ``model`` as it is, on its device; ``max_length`` defaults to the most that model and tokenizer take.

        ``decisions`` are its temperature and thresholds; without them the likeliest label is given, or those from 0.5.
        With ``windows`` longer texts are read whole; without, they are cut.
        """
        if len(label_names) != model.config.num_labels:
            raise ModelError(
                f"the model has {model.config.num_labels} outputs, which is not the number of labels",
                found=list(label_names),
            )
        if batch_size < 1:
            raise ModelError("texts are run in batches of at least one", found=batch_size)
        check_vocabulary_fits(model, tokenizer)
        self.model = model
        self.tokenizer = tokenizer
        self.label_names = tuple(label_names)
        self.problem_type: ProblemType = problem_type
        self.max_length = _checked_length(max_length, min(longest_input(model), tokenizer.max_length))
        self.batch_size = batch_size
        self.decisions = decisions
        self.windows = windows

    @classmethod
    def open(
        cls,
        run_folder: str | Path,
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> TorchPredictor:
        """Open a finished run folder, or any classifier in Hugging Face layout, with the labels of its configuration.

        Temperature and thresholds kept in the folder are obeyed. ``dtype`` is a name of ``DTYPES``. Raises
        ``ModelError`` for pickles, for heads that are not a classifier's and for any tensor the checkpoint does not
        hold, and ``RunFolderError`` for decisions that were fitted on other predictions than those in the folder.
        """
        if dtype not in DTYPES:
            raise ModelError("there is no such precision to run a model in", found=dtype, allowed=tuple(DTYPES))
        folder = resolve_model(run_folder)
        tokenizer = TextTokenizer.open(folder)
        model = open_classifier(folder).to(device=torch.device(device), dtype=DTYPES[dtype])
        labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
        decisions, windows = read_decisions(Path(folder)), windows_of(model)
        return cls(model, tokenizer, labels, model.config.problem_type, max_length, batch_size, decisions, windows)

    @property
    def n_parameters(self) -> int:
        """Parameters of the model, those that are shared counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def predict(self, texts: Sequence[Text]) -> Predictions:
        """Predictions for ``texts`` in their order, ``ids`` counting from 0.

        The model is in evaluation mode meanwhile and is left as it was found. The time includes tokenisation, and on a
        GPU everything that was queued.
        """
        started = time.perf_counter()
        logits, n_tokens, truncated = self._read(texts)
        elapsed_s = time.perf_counter() - started
        predictions = Predictions(
            ids=np.arange(len(logits)).astype(str),
            logits=logits,
            label_names=self.label_names,
            problem_type=self.problem_type,
            n_tokens=np.asarray(n_tokens, dtype=np.int32),
            truncated=np.asarray(truncated, dtype=bool),
            elapsed_s=elapsed_s,
        )
        return predictions if self.decisions is None else self.decisions.apply(predictions)

    def encode(self, texts: Sequence[Text]) -> WindowedTexts:
        """The texts as the model reads them: a row of tokens each, or where it reads in windows one for each window."""
        if self.windows is None:
            encoded = self.tokenizer.encode(texts, self.max_length)
            return WindowedTexts(encoded, np.arange(len(encoded)), encoded.n_tokens)
        whole = self.tokenizer.encode(single_texts(texts), UNCUT)
        return cut_windows(whole, self.tokenizer, self.max_length, self.windows.overlap)

    def _read(self, texts: Sequence[Text]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits, tokens before any was cut, and of which texts some were."""
        encoded = self.encode(texts)
        logits = self.logits_of(encoded.rows)
        if self.windows is None:
            return logits, encoded.n_tokens, encoded.rows.truncated
        pooled = pool_windows(logits, encoded.owners, self.windows.pooling)
        return pooled, encoded.n_tokens, np.zeros(len(encoded.n_tokens), dtype=bool)

    def logits_of(self, encoded: EncodedTexts) -> np.ndarray:
        """``(n, k)`` float32, of rows as ``encode`` gives them, each window for itself."""
        logits = np.empty((len(encoded), len(self.label_names)), dtype=np.float32)
        with evaluating(self.model):
            for rows, found in classify_longest_first(self.model, encoded, self.tokenizer.pad_id, self.batch_size):
                logits[rows] = found
        return logits


@torch.inference_mode()
def classify_longest_first(
    model: PreTrainedModel, encoded: EncodedTexts, pad_id: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of rows and their logits ``(rows, k)`` float32, batch by batch until every row was run once.

    Rows of like length share a batch; the longest come first, so that memory runs out at once or never. The model gets
    its own full inputs on its own device, in the mode and the arithmetic it is found in.
    """
    longest_first = np.argsort(-encoded.lengths, kind="stable")
    for start in range(0, len(encoded), batch_size):
        rows = longest_first[start : start + batch_size]
        # Copying to the processor waits for the device, so the time taken is the time the work took.
        yield rows, _batch_logits(model, pad_rows(encoded, rows, pad_id)).float().cpu().numpy()


def _batch_logits(model: PreTrainedModel, padded: Mapping[str, np.ndarray]) -> torch.Tensor:
    # Padding to a round width may go past the last position of a model; what is cut off here is padding only.
    width = model.config.max_position_embeddings
    batch = {name: torch.from_numpy(array[:, :width]).to(model.device) for name, array in padded.items()}
    logits: torch.Tensor = model(**select_inputs(model, batch)).logits
    return logits


def _checked_length(max_length: int | None, longest: int) -> int:
    if max_length is None:
        return longest
    if not 1 <= max_length <= longest:
        raise ModelError(
            "the model cannot take texts of this length",
            found=max_length,
            allowed=f"1 to {longest} tokens",
            do="lower max_length",
        )
    return max_length


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode meanwhile; the model is left as it was found."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
