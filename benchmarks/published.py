"""What published works report of the experiments in ``recipes/``, and where the same figure stands here.

Each figure of theirs stands beside names of figures of ours, which ``results.py`` looks up in the run folder:
``{task/arm/metric}``, the arm as tables call it, is the median over seeds on the reported split,
``{task/arm/before/metric}`` the same without temperature and thresholds, ``{task/arm/lowest}`` the labels of the lowest
F1, ``{arm/latency_ms}`` and ``{arm/n_parameters}`` medians over tasks. The words about what can be compared were
written before the runs were seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: what it is, what was published, and a template of what came here."""

    what: str
    published: str
    here: str


@dataclass(frozen=True)
class Published:
    """The figures of one published work, and what may and may not be compared with them."""

    source: str
    rows: tuple[Row, ...]
    comparable: str


_SHORT = (
    "The models here are a six-layer MiniLM, 384 wide, and three of its layers distilled for minutes; theirs are "
    "BERT-base and DistilBERT, pretrained for days."
)

PUBLISHED: Mapping[str, Published] = {
    "e1-dbpedia": Published(
        "DistilBERT on DBpedia-14, all rows, 10 epochs, padded to 512 tokens",
        (
            Row("accuracy", "99.03", "student {dbpedia_14/student/accuracy}, teacher {dbpedia_14/teacher/accuracy}"),
            Row("macro F1", "99.03", "student {dbpedia_14/student/f1_macro}, teacher {dbpedia_14/teacher/f1_macro}"),
            Row("lowest F1", "Company 96.96, Building 97.76", "student {dbpedia_14/student/lowest}"),
        ),
        f"{_SHORT} They trained on up to 560,000 articles with their titles for ten epochs, this on the 14,000 of a "
        "sample without titles for one. Which classes are hardest can be compared; how high the figures are cannot.",
    ),
    "e2-news-toxicity": Published(
        "BERT and DistilBERT under a hidden layer, 422,410 headlines and 78,186 comments, 4 epochs",
        (
            Row(
                "headlines, accuracy",
                "BERT 96.42, DistilBERT 96.36",
                "teacher {uci_news_aggregator/teacher/accuracy}, student {uci_news_aggregator/student/accuracy}",
            ),
            Row(
                "comments, Jaccard index at 0.5 (there called Hamming score)",
                "BERT 93.95, DistilBERT 93.96",
                "teacher {jigsaw_toxicity/teacher/before/jaccard_samples}, "
                "student {jigsaw_toxicity/student/before/jaccard_samples}",
            ),
            Row(
                "comments, the same with thresholds of the best G-mean",
                "BERT 89.16, DistilBERT 89.36 (thresholds fitted on the test rows)",
                "teacher {jigsaw_toxicity/teacher/jaccard_samples}, student {jigsaw_toxicity/student/jaccard_samples} "
                "(fitted on the selection split)",
            ),
            Row(
                "one text",
                "test in 2:05 and 1:04 minutes on a GPU",
                "{teacher/latency_ms} and {student/latency_ms} ms on two cores",
            ),
        ),
        f"{_SHORT} 8,000 headlines train here, 422,410 there; the comments are the short ones among theirs. That the "
        "small model is level with the large one, and that thresholds of the best G-mean cost Jaccard index, can be "
        "compared; the heights cannot.",
    ),
    "e3-imdb": Published(
        "DistilBERT on IMDb, 25,000 reviews, 3 epochs, layer-wise decay .95",
        (
            Row(
                "accuracy",
                "92.4 by its confusion matrix, 92.72 in its text",
                "student {imdb/student/accuracy}, teacher {imdb/teacher/accuracy}",
            ),
        ),
        f"{_SHORT} They trained on all reviews, this on 1,500 of them cut at 256 tokens. Heights cannot be compared.",
    ),
    "e4-newsgroups": Published(
        "BiLSTM with GloVe vectors, DistilBERT and BERT on 20 Newsgroups, head first and then all",
        (
            Row("BERT, accuracy", "74.77", "teacher {20_newsgroups/teacher/accuracy}"),
            Row("DistilBERT, accuracy", "73.88", "student {20_newsgroups/student/accuracy}"),
            Row("BiLSTM, accuracy", "62.90", "{20_newsgroups/BiLSTM with attention/accuracy}"),
            Row(
                "TF-IDF under a linear model, accuracy",
                "not given",
                "{20_newsgroups/TF-IDF and a linear model/accuracy}",
            ),
            Row(
                "one text, ms, large and small",
                "88 and 44",
                "{teacher/latency_ms} and {student/latency_ms}",
            ),
            Row(
                "parameters, large and small",
                "109,497,620 and 66,968,852",
                "{teacher/n_parameters} and {student/n_parameters}",
            ),
        ),
        f"{_SHORT} Rows, cleaning and the BiLSTM's vectors differ too: 3,000 posts, and the teacher's own embeddings "
        "in place of GloVe. What can be compared is the order of the models trained on the same rows, and the ratio of "
        "the times of one text.",
    ),
    "e5-distilbert": Published(
        "BERT-base and a student of every other layer, WikiText, 10 epochs; the DistilBERT paper has 97% over GLUE",
        (
            Row(
                "CoLA, Matthews correlation",
                "48.9 of 57.2",
                "{cola/student/matthews_corrcoef} of {cola/teacher/matthews_corrcoef}",
            ),
            Row("MRPC, F1", "86.2 of 87.2", "{mrpc/student/f1} of {mrpc/teacher/f1}"),
            Row("IMDb, accuracy", "91.2 of 92.4", "{imdb/student/accuracy} of {imdb/teacher/accuracy}"),
        ),
        f"{_SHORT} What can be compared is which task loses most.",
    ),
}

ABLATIONS: Mapping[str, Published] = {
    "e3-ablations": Published(
        "DistilBERT on IMDb, one run an arm, arms on a tenth of the baseline's rows",
        (
            Row(
                "frozen 0, 2, 4 of 6 layers", "91.57, 89.23, 86.45", "0, 1, 2 of 3: {as-it-is}, {frozen-1}, {frozen-2}"
            ),
            Row("1, 3, 5 epochs", "87.34, 91.57, 91.89", "{epochs-1}, {as-it-is}, {epochs-5}"),
            Row("batches of 8, 16, 32", "90.12, 91.57, 91.23", "{batch-8}, {as-it-is}, {batch-32}"),
        ),
        "Heights cannot be compared; directions can. Theirs have no seeds and no intervals, and an arm on a tenth of "
        "the rows cannot be held against a baseline on all of them.",
    ),
    "e4-strategies": Published(
        "DistilBERT on 20 Newsgroups, one run a strategy, each at its own rates",
        (
            Row(
                "head alone, everything, head first",
                "66.15, 74.06, 73.88",
                "{strategy=freeze,class_weights=none,decay=1}, {strategy=full,class_weights=none,decay=1}, "
                "{strategy=hybrid,class_weights=none,decay=1}",
            ),
        ),
        "Heights cannot be compared: three layers for minutes against DistilBERT, 1,000 posts against all of them. The "
        "order of the strategies can.",
    ),
}

EXPECTED: Mapping[str, str] = {
    "e5-distilbert": (
        "Sanh et al. 2019 report that a six-layer student keeps 97% of BERT-base over GLUE; a reproduction on WikiText "
        "kept 94.35% over CoLA, MRPC and IMDb, CoLA worst (48.9 of 57.2). Here the teacher is a quarter of the size, "
        "the text is a part of one pass over WikiText-2 and the head it is distilled through was trained for minutes, "
        "so less was expected: about 90% on MRPC, SST-2 and IMDb, about half on CoLA, the distilled student a little "
        "above the copied layers, and random weights far below both on all but MRPC, whose majority class is strong."
    ),
    "e1-dbpedia": (
        "Articles of 14 kinds are easy to tell apart: teacher and student above 97%, within a point of each other, "
        "companies hardest, the copied layers level with the student."
    ),
    "e2-news-toxicity": (
        "Headlines near 88% for both models, less than the published 96% of fifty times the rows. On the comments, "
        "most of which carry no label, a Jaccard index above 90 at 0.5 and less with thresholds of the best G-mean, "
        "which trade precision for recall; macro F1 the other way."
    ),
    "e3-imdb": "About 80% for the teacher and 76% for student and copied layers, as in E5 on as many reviews.",
    "e4-newsgroups": (
        "TF-IDF first: 20 kinds of posts are told apart by their words, and 3,000 of them are few for a transformer. "
        "The teacher next, then the student, the BiLSTM last."
    ),
    "e4-strategies": (
        "The head alone far below the others, as published; full and hybrid not to be told apart; class weights "
        "without effect, because the groups are of nearly one size; lower rates for lower layers a little worse in so "
        "short a training."
    ),
    "e3-ablations": (
        "Frozen layers cost little of so short a training, the upper half most; one epoch clearly less than three, "
        "five level with three; batches of 8 level or better, of 32 worse, because they update less often."
    ),
    "sst2-shapes": (
        "Depth matters most, then width, and heads hardly: four heads of the teacher's twelve rows of weights lose a "
        "little where weights are cut rather than learnt."
    ),
}
"""What was expected of each, written before it ran."""
