"""The tasks we know: columns, label names, problem type, splits, metrics, citation. Facts only; nothing is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from potstill.data.names import suggest
from potstill.errors import DataError

if TYPE_CHECKING:
    # For type checkers only: records imports numpy, and reading the catalogue should cost nothing.
    from potstill.records import ProblemType

Join = Literal["pair", "sep"]


@dataclass(frozen=True)
class Task:
    """One supervised task, and where its rows are.

    text_columns: one, or two; two are a pair of texts (``join`` "pair") or one text joined through ``[SEP]`` ("sep").
    label_columns: one; or, for many labels, one 0/1 column per label, or one column that holds lists of names.
    label_names: in the order of the label numbers; ``("score",)`` for regression; empty: taken from the training data.
    hub_splits, local_files, sources: split → split on the hub, file below the data folder, the user's own source.
    local_columns: column → its name in the local copy, None where that copy lacks the column.
    metrics: under the names of ``evaluate.metrics``; ``metric`` is the primary one.
    report_split: the split whose figures count. It is never used to choose anything.
    hidden_splits: splits that exist, but whose labels are not published.
    cleaning: steps of ``data.cleaning`` that belong to the task.
    language: of the texts, as ISO 639-1 has it; None where nobody said.
    """

    name: str
    problem_type: ProblemType
    text_columns: tuple[str, ...]
    label_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metric: str
    metrics: tuple[str, ...]
    report_split: str
    citation: str = ""
    language: str | None = None
    hub_name: str | None = None
    hub_config: str | None = None
    hub_splits: Mapping[str, str] = field(default_factory=dict)
    local_files: Mapping[str, str] = field(default_factory=dict)
    local_columns: Mapping[str, str | None] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    hidden_splits: tuple[str, ...] = ()
    join: Join = "pair"
    cleaning: tuple[str, ...] = ()
    builtin: bool = False
    notes: tuple[str, ...] = ()

    @property
    def takes_pairs(self) -> bool:
        """Whether one input is two texts."""
        return are_pairs(self.text_columns, self.join)


def are_pairs(text_columns: Sequence[str], join: str) -> bool:
    """Whether texts of these columns are read two at a time, and not as one."""
    return len(text_columns) == 2 and join == "pair"


GLUE_CITATION = "Wang et al. 2019, GLUE: A Multi-Task Benchmark and Analysis Platform, ICLR, arXiv:1804.07461"


def _glue(
    name: str,
    text_columns: tuple[str, ...],
    label_names: tuple[str, ...],
    metrics: tuple[str, ...],
    origin: str,
    *,
    validation: Mapping[str, str] | None = None,
    labelled_test: bool = False,
) -> Task:
    """A GLUE task. Its figures are those of the validation split, as in most papers: the test labels are hidden."""
    hub_splits = {"train": "train", **(validation or {"validation": "validation"})}
    if labelled_test:
        hub_splits["test"] = "test"
    return Task(
        name=name,
        problem_type="regression" if label_names == ("score",) else "single_label_classification",
        text_columns=text_columns,
        label_columns=("label",),
        label_names=label_names,
        metric=metrics[0],
        metrics=metrics,
        report_split="validation",
        citation=f"{origin}; {GLUE_CITATION}",
        language="en",
        hub_name="nyu-mll/glue",
        hub_config=name,
        hub_splits=hub_splits,
        local_files={split: f"glue/{name}/{on_hub}.parquet" for split, on_hub in hub_splits.items()},
        hidden_splits=() if labelled_test else ("test",),
    )


_SENTENCES = ("sentence1", "sentence2")
_MNLI_VALIDATION = {"validation": "validation_matched", "validation_mismatched": "validation_mismatched"}

_GLUE_TASKS = (
    _glue(
        "cola",
        ("sentence",),
        ("unacceptable", "acceptable"),
        ("matthews_corrcoef", "accuracy"),
        "Warstadt et al. 2019, Neural Network Acceptability Judgments, TACL",
    ),
    _glue(
        "sst2",
        ("sentence",),
        ("negative", "positive"),
        ("accuracy", "f1"),
        "Socher et al. 2013, Recursive Deep Models for Semantic Compositionality over a Sentiment Treebank, EMNLP",
    ),
    _glue(
        "mrpc",
        _SENTENCES,
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
        "Dolan and Brockett 2005, Automatically Constructing a Corpus of Sentential Paraphrases, IWP",
        labelled_test=True,
    ),
    _glue(
        "stsb",
        _SENTENCES,
        ("score",),
        ("pearsonr", "spearmanr"),
        "Cer et al. 2017, SemEval-2017 Task 1: Semantic Textual Similarity, SemEval",
    ),
    _glue(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        "Iyer et al. 2017, First Quora Dataset Release: Question Pairs",
    ),
    _glue(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy", "f1_macro"),
        "Williams et al. 2018, A Broad-Coverage Challenge Corpus for Sentence Understanding, NAACL",
        validation=_MNLI_VALIDATION,
    ),
    _glue(
        "qnli",
        ("question", "sentence"),
        ("entailment", "not_entailment"),
        ("accuracy", "f1"),
        "Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text, EMNLP",
    ),
    _glue(
        "rte",
        _SENTENCES,
        ("entailment", "not_entailment"),
        ("accuracy", "f1"),
        "Dagan et al. 2006, The PASCAL Recognising Textual Entailment Challenge, and RTE-2, RTE-3, RTE-5",
    ),
    _glue(
        "wnli",
        _SENTENCES,
        ("not_entailment", "entailment"),
        ("accuracy", "f1"),
        "Levesque et al. 2012, The Winograd Schema Challenge, KR",
    ),
)

_IMDB = Task(
    name="imdb",
    problem_type="single_label_classification",
    text_columns=("text",),
    label_columns=("label",),
    label_names=("neg", "pos"),
    metric="accuracy",
    metrics=("accuracy", "f1"),
    report_split="test",
    citation="Maas et al. 2011, Learning Word Vectors for Sentiment Analysis, ACL",
    language="en",
    hub_name="stanfordnlp/imdb",
    hub_splits={"train": "train", "test": "test"},
    local_files={"train": "imdb/train.parquet", "test": "imdb/test.parquet"},
    hidden_splits=("unsupervised",),
)

_DBPEDIA = Task(
    name="dbpedia_14",
    problem_type="single_label_classification",
    text_columns=("title", "content"),
    join="sep",
    label_columns=("label",),
    label_names=(
        "Company",
        "EducationalInstitution",
        "Artist",
        "Athlete",
        "OfficeHolder",
        "MeanOfTransportation",
        "Building",
        "NaturalPlace",
        "Village",
        "Animal",
        "Plant",
        "Album",
        "Film",
        "WrittenWork",
    ),
    metric="accuracy",
    metrics=("accuracy", "f1_macro"),
    report_split="test",
    citation="Zhang et al. 2015, Character-level Convolutional Networks for Text Classification, NeurIPS",
    language="en",
    hub_name="fancyzhx/dbpedia_14",
    hub_splits={"train": "train", "test": "test"},
    local_files={"train": "dbpedia_14/sample.csv.gz"},
    local_columns={"title": None},
)

_NEWSGROUPS = Task(
    name="20_newsgroups",
    problem_type="single_label_classification",
    text_columns=("text",),
    label_columns=("label",),
    label_names=(
        "alt.atheism",
        "comp.graphics",
        "comp.os.ms-windows.misc",
        "comp.sys.ibm.pc.hardware",
        "comp.sys.mac.hardware",
        "comp.windows.x",
        "misc.forsale",
        "rec.autos",
        "rec.motorcycles",
        "rec.sport.baseball",
        "rec.sport.hockey",
        "sci.crypt",
        "sci.electronics",
        "sci.med",
        "sci.space",
        "soc.religion.christian",
        "talk.politics.guns",
        "talk.politics.mideast",
        "talk.politics.misc",
        "talk.religion.misc",
    ),
    metric="accuracy",
    metrics=("accuracy", "f1_macro"),
    report_split="test",
    citation="Lang 1995, NewsWeeder: Learning to Filter Netnews, ICML",
    language="en",
    hub_name="SetFit/20_newsgroups",
    hub_splits={"train": "train", "test": "test"},
    local_files={"train": "20_newsgroups/train.parquet", "test": "20_newsgroups/test.parquet"},
    cleaning=("newsgroup_headers", "newsgroup_signatures", "newsgroup_quotes", "too_short", "max_words"),
)

_NEWS_AGGREGATOR = Task(
    name="uci_news_aggregator",
    problem_type="single_label_classification",
    text_columns=("text",),
    label_columns=("category",),
    label_names=("business", "entertainment", "health", "science"),
    metric="accuracy",
    metrics=("accuracy", "f1_macro"),
    report_split="test",
    citation="Gasparetti 2016, News Aggregator, UCI Machine Learning Repository, doi:10.24432/C5F61C",
    language="en",
    local_files={"train": "uci_news_aggregator/sample.csv"},
)

_TOXICITY_LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")

_JIGSAW = Task(
    name="jigsaw_toxicity",
    problem_type="multi_label_classification",
    text_columns=("text",),
    label_columns=_TOXICITY_LABELS,
    label_names=_TOXICITY_LABELS,
    metric="roc_auc_macro",
    metrics=("roc_auc_macro", "f1_micro", "f1_macro", "jaccard_samples", "hamming_loss"),
    report_split="test",
    citation="cjadams et al. 2017, Toxic Comment Classification Challenge, Kaggle",
    language="en",
    local_files={"train": "jigsaw_toxicity/train_sample.csv", "test": "jigsaw_toxicity/test_sample.csv"},
)

_DOCSTRINGS = Task(
    name="docstrings",
    problem_type="single_label_classification",
    text_columns=("text",),
    label_columns=("library",),
    label_names=(),
    metric="accuracy",
    metrics=("accuracy", "f1_macro"),
    report_split="test",
    citation="built in: which of the installed libraries does a paragraph of documentation come from",
    language="en",
    builtin=True,
)

CATALOGUE: Mapping[str, Task] = {
    task.name: task for task in (*_GLUE_TASKS, _IMDB, _DBPEDIA, _NEWSGROUPS, _NEWS_AGGREGATOR, _JIGSAW, _DOCSTRINGS)
}
"""Every task that can be loaded, by name."""

LISTED_ONLY: Mapping[str, str] = {
    "squad": "SQuAD 1.1 (Rajpurkar et al. 2016, EMNLP): answers are spans of a passage, and potstill classifies texts",
}
"""Tasks that are known by name, and why they cannot be loaded."""


def get_task(name: str) -> Task:
    """The task called ``name``; DataError, naming the nearest, if there is none, or if it is listed only."""
    if name in LISTED_ONLY:
        raise DataError(f"the task {name} is listed, but cannot be loaded yet: {LISTED_ONLY[name]}")
    if name not in CATALOGUE:
        do = suggest(name, CATALOGUE, otherwise="for a task of your own give its files and columns")
        raise DataError("unknown task", found=name, allowed=sorted(CATALOGUE), do=do)
    return CATALOGUE[name]
