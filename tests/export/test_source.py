"""A run as an export sees it. Oracles: the run's own tokenizer, and the training split alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

from potstill.data.tokens import TextTokenizer
from potstill.evaluate.stage import open_runs
from potstill.export.gate import evenly_spaced
from potstill.export.source import Source


def test_int8_is_fitted_on_training_texts_alone(classifiers):
    for task in ("reviews", "pairs"):
        (folder,), data = open_runs([classifiers[task]], None)
        train = data.split("train")
        alone = replace(data, splits={"train": train}, same_as={})
        batches = Source.open(folder, alone).calibration(7)
        expected = TextTokenizer.open(classifiers[task]).encode(train.select(evenly_spaced(len(train), 7)).texts, 40)
        texts = {
            tuple(row[mask.bool()].tolist())
            for batch in batches
            for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        }
        ids, offsets = expected.input_ids, expected.offsets
        assert texts == {tuple(ids[begin:end].tolist()) for begin, end in itertools.pairwise(offsets)}
