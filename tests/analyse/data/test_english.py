from __future__ import annotations

import pytest

from potstill.analyse.data.english import FUNCTION_WORDS, LOOKS, TELLTALE_WORDS, LookCounter, look_of
from potstill.analyse.data.rows import Part, read_chunks, read_words

# The first article of the Universal Declaration of Human Rights, which is free to copy, in 11 languages.
ARTICLE = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
    "begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "Italian": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "Dutch": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
    "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "Danish": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og "
    "samvittighed, og de bør handle mod hverandre i en broderskabets ånd.",
    "Swedish": "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete "
    "och bör handla gentemot varandra i en anda av broderskap.",
    "Portuguese": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "Polish": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni "
    "rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
}


def judged(text: str) -> str:
    return look_of(text, read_words(text))[0]


@pytest.mark.parametrize("language", ARTICLE)
def test_languages_are_told_from_english(language):
    expected = {"English": "English", "Russian": "other script"}.get(language, "few English words")
    assert judged(ARTICLE[language]) == expected


@pytest.mark.parametrize(
    ("text", "look"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("... :-) !!", "no words"),
        ("A short text in English.", "too short to judge"),
        ("Ein kurzer Satz auf Deutsch", "too short to judge"),
        ("日本語の文章です", "other script"),
        ("résumé naïve café", "too short to judge"),
        (" ".join(["18 12 0.5 NYR BOS"] * 8), "few English words"),
    ],
)
def test_what_is_no_english_prose_is_named(text, look):
    assert judged(text) == look


def test_a_pair_is_judged_as_a_whole():
    assert look_of(("", ARTICLE["English"]), read_words(ARTICLE["English"]))[0] == "English"
    assert look_of(("", " "), [])[0] == "empty"


def test_telltale_words_are_function_words():
    assert TELLTALE_WORDS < FUNCTION_WORDS
    assert all(word == word.lower() and read_words(word) == [word] for word in FUNCTION_WORDS)


def test_every_text_is_counted_under_one_look_and_the_first_of_each_kind_are_kept():
    texts = ["", *ARTICLE.values(), "", "!", ""]
    part = Part("train", texts)
    counter = LookCounter([part], most=2)
    for chunk in read_chunks(part, 4):
        counter.add("train", chunk)
    looks = counter.result()
    assert sum(looks.counts["train"].values()) == len(texts)
    assert set(looks.counts["train"]) == set(LOOKS)
    assert [example.row for example in looks.examples if example.look == "empty"] == [0, 12]
    assert len([example for example in looks.examples if example.look == "few English words"]) == 2


@pytest.mark.data
def test_film_reviews_are_english(data_dir):
    # oracle: the data set, which is English by its making
    from potstill.data.corpora import resident_texts

    texts = resident_texts("imdb-unsupervised", "text", data_dir)
    looks = [judged(text) for text in texts[:1000]]
    assert looks.count("few English words") + looks.count("other script") <= 2
