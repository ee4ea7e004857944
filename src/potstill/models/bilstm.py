"""A bidirectional LSTM with additive attention, as classes of transformers: saved, opened and trained like the rest.

Importing this module tells transformers' Auto classes of the type; without it they refuse the folder.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

from potstill.errors import ModelError

Weighting = Literal["none", "embeddings", "attention"]


class BilstmConfig(PreTrainedConfig):
    """The shape of a BiLSTM.

    hidden_size: width of the states of each direction, of which the attention and the head read both.
    token_weighting: what the tokens' weights multiply, the ``embeddings`` or the ``attention``; ``none`` has none.
    max_position_embeddings: tokens of a text at most. No position is learnt; it bounds what one text can ask for.
    """

    model_type = "potstill_bilstm"

    vocab_size: int = 30_522
    embedding_size: int = 300
    hidden_size: int = 128
    num_hidden_layers: int = 1
    hidden_dropout_prob: float = 0.3
    classifier_dropout: float = 0.3
    token_weighting: str = "none"
    max_position_embeddings: int = 100_000
    pad_token_id: int = 0
    initializer_range: float = 0.1


class BilstmPreTrainedModel(PreTrainedModel):
    """What encoder and classifier share: the configuration, and how weights are drawn."""

    config_class = BilstmConfig
    base_model_prefix = "bilstm"

    def _init_weights(self, module: nn.Module) -> None:
        """Normal embeddings and linear maps; LSTM: Glorot inputs, orthogonal recurrence, forget gates open at first.

        Forget bias 1 is from Jozefowicz et al. 2015, section 5; the gates stand in the order input, forget, cell,
        output. transformers keeps ``nn.init`` from touching what a checkpoint filled.
        """
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(parameter)
                elif name.startswith("bias_ih") and not getattr(parameter, "_is_hf_initialized", False):
                    parameter[module.hidden_size : 2 * module.hidden_size] = 1.0
        elif isinstance(module, BilstmModel) and module.token_weights is not None:
            nn.init.ones_(module.token_weights)


class BidirectionalLayer(nn.Module):
    """An LSTM from the left and one from the right, each of which begins at an end of the text and not of the batch.

    torch's own reads the padding first where it comes from the right, unless the batch is packed; and packed batches
    miss the fused LSTM of a CPU, which is several times as fast.
    """

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.from_left = nn.LSTM(width, hidden_size, batch_first=True)
        self.from_right = nn.LSTM(width, hidden_size, batch_first=True)

    def forward(self, states: Tensor, turned: Tensor, attended: Tensor) -> Tensor:
        """``(batch, length, 2 · hidden)``, 0 on padding; ``turned``: the positions of each text, its last first."""
        left = self.from_left(states)[0]
        right = _at(self.from_right(_at(states, turned))[0], turned)
        return torch.cat([left, right], dim=-1) * attended[..., None]


def _at(states: Tensor, positions: Tensor) -> Tensor:
    """``states`` ``(batch, length, width)`` in the order of ``positions`` ``(batch, length)``."""
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))


class AdditiveAttention(nn.Module):
    """One query, learnt, over the states of a text: ``softmax(v · tanh(W h + b))`` (Bahdanau et al. 2015, eq. 6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.query = nn.Linear(width, 1, bias=False)

    def forward(self, states: Tensor, attended: Tensor, weights: Tensor | None = None) -> Tensor:
        """``(batch, length)`` float32, rows summing to 1, 0 where ``attended`` is false.

        ``weights`` ``(batch, length)``, positive, multiply what each position gets before the rows are normalised: of
        two tokens with equal scores, one of twice the weight gets twice the attention.
        """
        scores = self.query(torch.tanh(self.project(states))).squeeze(-1).float()
        if weights is not None:
            scores = scores + weights.log()
        return scores.masked_fill(~attended, -torch.inf).softmax(dim=-1)


class BilstmModel(BilstmPreTrainedModel):
    """Embeddings, LSTM layers in both directions, and attention: token ids in, states and one vector a text out."""

    def __init__(self, config: BilstmConfig) -> None:
        super().__init__(config)
        _check_weighting(config.token_weighting)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        widths = [config.embedding_size, *[2 * config.hidden_size] * (config.num_hidden_layers - 1)]
        self.layers = nn.ModuleList(BidirectionalLayer(width, config.hidden_size) for width in widths)
        self.pooler = AdditiveAttention(2 * config.hidden_size)
        weights = None if config.token_weighting == "none" else torch.ones(config.vocab_size)
        self.register_buffer("token_weights", weights)
        self.token_weights: Tensor | None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of the tokens' vectors."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put another table in its place."""
        self.embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> Any:
        """States ``(batch, length, 2 · hidden)``, 0 on padding, and their mean by attention ``(batch, 2 · hidden)``.

        Each text is read to its own end and back, so padding on the right changes nothing. With ``output_attentions``
        the attention comes as one layer of one head and one query, ``(batch, 1, 1, length)``. Raises ``ModelError``
        for padding on another side, and for a text without a token.
        """
        attended = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        turned = _turned(attended)
        weights = None if self.token_weights is None else self.token_weights[input_ids]
        vectors = self.embeddings(input_ids)
        if weights is not None and self.config.token_weighting == "embeddings":
            vectors, weights = vectors * weights[..., None].to(vectors.dtype), None
        hidden = [vectors]
        for layer in self.layers:
            hidden.append(layer(self.dropout(hidden[-1]), turned, attended))
        states = hidden[-1]
        attention = self.pooler(states, attended, weights)
        pooled = torch.bmm(attention[:, None].to(states.dtype), states)[:, 0]
        output = BaseModelOutputWithPooling(
            last_hidden_state=states,
            pooler_output=pooled,
            hidden_states=tuple(hidden) if output_hidden_states else None,
            attentions=(attention[:, None, None],) if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()


class BilstmForSequenceClassification(BilstmPreTrainedModel):
    """A BiLSTM with a linear head on what attention gathered."""

    def __init__(self, config: BilstmConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bilstm = BilstmModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> Any:
        """Logits ``(batch, labels)``; the rest is as in ``BilstmModel``."""
        read = self.bilstm(input_ids, attention_mask, output_attentions, output_hidden_states)
        output = SequenceClassifierOutput(
            logits=self.classifier(self.dropout(read.pooler_output)),
            hidden_states=read.hidden_states,
            attentions=read.attentions,
        )
        return output if return_dict else output.to_tuple()


def new_bilstm(
    config: BilstmConfig,
    *,
    seed: int,
    vectors: Tensor | None = None,
    token_weights: Tensor | None = None,
) -> BilstmForSequenceClassification:
    """A classifier whose weights are drawn with ``seed``, in evaluation mode; the global generator is put back.

    vectors: ``(vocab, embedding_size)``, the embeddings to begin with; the padding's are 0 whatever they say.
    token_weights: ``(vocab,)``, positive, where the configuration asks for weighting. Raises ``ModelError`` where they
    do not fit the configuration.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        model = BilstmForSequenceClassification(config).eval()
        if vectors is not None:
            _copy(model.bilstm.embeddings.weight, vectors, "vectors")
            model.bilstm.embeddings.weight[config.pad_token_id] = 0.0
        place = model.bilstm.token_weights
        if (token_weights is None) != (place is None):
            raise ModelError("token weights and token_weighting go together", found=config.token_weighting)
        if token_weights is not None and place is not None:
            if not (token_weights > 0).all():
                raise ModelError("every token weight has to be positive", found=float(token_weights.min()))
            _copy(place, token_weights, "token weights")
    return model


def _copy(place: Tensor, values: Tensor, what: str) -> None:
    if place.shape != values.shape:
        raise ModelError(f"the {what} have another shape", found=tuple(values.shape), allowed=tuple(place.shape))
    place.copy_(values)


def _check_weighting(word: str) -> None:
    if word not in get_args(Weighting):
        raise ModelError("there is no such weighting of tokens", found=word, allowed=get_args(Weighting))


def _turned(attended: Tensor) -> Tensor:
    """``(batch, length)`` int64: the positions of each text, its last first, and then those of its padding."""
    if not torch.compiler.is_exporting():  # a graph cannot raise; what runs it pads on the right
        _require_padding_on_the_right(attended)
    positions = torch.arange(attended.shape[1], device=attended.device)
    return torch.where(attended, attended.sum(dim=1, keepdim=True) - 1 - positions, positions)


def _require_padding_on_the_right(attended: Tensor) -> None:
    if (attended[:, 1:] & ~attended[:, :-1]).any():
        raise ModelError("a BiLSTM reads texts that are padded on the right", do="set padding_side to right")
    if not attended[:, 0].all():
        raise ModelError("a text without a token cannot be read", do="give it at least its special tokens")


AutoConfig.register(BilstmConfig.model_type, BilstmConfig)
AutoModel.register(BilstmConfig, BilstmModel)
AutoModelForSequenceClassification.register(BilstmConfig, BilstmForSequenceClassification)
