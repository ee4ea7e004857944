"""Fine-tuning on packed batches; the oracle is fine-tuning on the same batches padded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    MPNetConfig,
    PreTrainedModel,
    set_seed,
)

from potstill.data.tokens import EncodedTexts
from potstill.data.training_batches import LabelledTexts
from potstill.errors import ModelError
from potstill.finetune import stage
from potstill.finetune.objective import ClassificationObjective, TaskDistillationObjective
from potstill.models.packed_attention import PACKED
from potstill.recipe.schema import FinetuneJob
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import fit

SINGLE = "single_label_classification"
SIZES: dict[str, Any] = {"vocab_size": 60, "max_position_embeddings": 32, "num_labels": 2, "initializer_range": 0.2}


def student() -> PreTrainedModel:
    """Without dropout, whose draws differ between the layouts."""
    torch.manual_seed(1)
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    config = DistilBertConfig(**SIZES, **rates, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    return AutoModelForSequenceClassification.from_config(config)


def teacher() -> PreTrainedModel:
    """Takes token types, which the student does not."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return AutoModelForSequenceClassification.from_config(BertConfig(**SIZES, **sizes))


def pairs(packed: bool) -> LabelledTexts:
    """Thirty pairs of texts of 4 to 30 tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 31, 30).astype(np.int32)
    types = np.concatenate([np.arange(length) >= length // 2 for length in lengths]).astype(np.int8)
    ids = rng.integers(5, 60, lengths.sum()).astype(np.int32)
    encoded = EncodedTexts(ids, np.r_[0, np.cumsum(lengths)].astype(np.int64), types, lengths, lengths < 0)
    return LabelledTexts(encoded, rng.integers(0, 2, 30), 0, batch_size=8, seed=1, packed=packed)


def distillation(packed: bool) -> tuple[PreTrainedModel, TaskDistillationObjective]:
    models = student(), teacher()
    if packed:
        for model in models:
            stage.switch_to_packing(model)
    return models[0], TaskDistillationObjective(models[1], SINGLE, alpha=0.5)


def batch_of(texts: LabelledTexts) -> dict[str, Tensor]:
    (key,) = next(iter(texts.plan))
    return {name: torch.from_numpy(array) for name, array in texts[key].items()}


def train(packed: bool, work: Path) -> tuple[PreTrainedModel, FitResult]:
    # A small epsilon would turn the rounding of gradients that are 0 into steps of full size.
    settings = TrainingSettings(
        learning_rate=1e-2, epsilon=1e-3, batch_size=8, epochs=3.0, seed=3, report_to=(), checkpoint_s=1e9
    )
    model, objective = distillation(packed)
    set_seed(99)
    return model, fit(model, objective, pairs(packed), settings, work=work)


def test_both_terms_of_a_packed_batch_are_those_of_the_padded_one():
    terms = {}
    for packed in (False, True):
        model, objective = distillation(packed)
        batch = batch_of(pairs(packed))
        n_texts = float(len(batch["labels"]))
        assert objective.counts(batch) == {"hard": n_texts, "soft": n_texts}
        terms[packed] = objective(model.eval(), batch)
    torch.testing.assert_close(terms[True], terms[False], rtol=1e-4, atol=1e-5)


def test_the_first_packed_batch_in_bf16_moves_every_parameter_as_the_padded_one_does():
    """autocast keeps a weight's cast for the next call, so a look at the model without gradients could cut it off."""
    norms = {}
    for packed in (False, True):
        model, objective = distillation(packed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = objective(model.train(), batch_of(pairs(packed)))
        (terms["hard"] + terms["soft"]).backward()
        norms[packed] = {name: float(weight.grad.norm()) for name, weight in model.named_parameters()}
    assert norms[True] == pytest.approx(norms[False], rel=0.2, abs=0.05)


def test_the_teacher_reads_the_token_types_of_a_packed_batch():
    model, objective = distillation(packed=True)
    batch = batch_of(pairs(packed=True))
    blind = {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    seen, unseen = objective(model.eval(), batch), objective(model.eval(), blind)
    assert torch.equal(seen["hard"], unseen["hard"])
    assert not torch.allclose(seen["soft"], unseen["soft"], rtol=1e-3)


def test_a_packed_batch_for_a_model_that_is_not_switched_is_an_error():
    with pytest.raises(ModelError, match="attends across its texts"):
        ClassificationObjective(SINGLE)(student(), batch_of(pairs(packed=True)))


@pytest.mark.slow
def test_training_on_packed_and_on_padded_batches_gives_the_same_weights(tmp_path):
    (padded, apart), (packed, together) = (train(way, tmp_path / str(way)) for way in (False, True))
    untrained = student().state_dict()
    for name, weights in padded.state_dict().items():
        assert not torch.allclose(weights, untrained[name], atol=1e-4) or name.endswith("k_lin.bias"), name
        torch.testing.assert_close(packed.state_dict()[name], weights, rtol=1e-4, atol=1e-5)
    assert together.tokens == apart.tokens == 3 * int(np.diff(pairs(packed=True)._encoded.offsets).sum())
    assert together.steps == apart.steps == 12


# -- when batches are packed ------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_packed_is_refused():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    unpackable = AutoModelForSequenceClassification.from_config(MPNetConfig(**SIZES, **sizes))
    with pytest.raises(ModelError, match="cannot run packed batches"):
        stage.switch_to_packing(unpackable)


@pytest.fixture
def run(tiny: Any, caches: Any, encoders: Any, tmp_path: Path) -> Any:
    """Fine-tune the small student on pairs, packed or padded."""

    def run(packing: bool, **others: Any) -> Any:
        rows = {"name": "pairs", "files": str(tiny.pairs), "text_columns": ["first", "second"]}
        section = {
            "epochs": 2,
            "batch_size": 16,
            "max_length": 40,
            "learning_rate": 0.003,
            "packing": packing,
            **others,
        }
        out = tmp_path / "-".join(map(str, (packing, *others.values())))
        content = {"out": out, "seed": 1, "model": str(encoders["student"]), "task": rows}
        return stage.run(FinetuneJob.model_validate({**content, "finetune": section}))

    return run


def test_a_packed_run_has_no_padding_and_leaves_a_model_for_plain_transformers(run):
    packed, padded = run(True), run(False)
    shares = [run.manifest["throughput"]["finetune"]["padding"] for run in (packed, padded)]
    assert shares[0] == 0 < shares[1]
    assert packed.manifest["tokens_seen"] == padded.manifest["tokens_seen"]
    assert PACKED not in (packed.path / "config.json").read_text()
    assert AutoModelForSequenceClassification.from_pretrained(packed.path).config._attn_implementation == "sdpa"
    assert np.isfinite(packed.predictions("test").logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("packing", [True, False])
def test_batches_by_tokens_meet_every_row_in_steps_of_their_own(run, packing: bool):
    by_rows, by_tokens = run(packing), run(packing, batch_tokens=80)
    assert by_tokens.manifest["tokens_seen"] == by_rows.manifest["tokens_seen"]
    last, of_rows = (stored.history()[-1]["step"] for stored in (by_tokens, by_rows))
    assert last > of_rows  # 80 tokens hold fewer than 16 of these rows
    assert np.isfinite(by_tokens.predictions("test").logits).all()
