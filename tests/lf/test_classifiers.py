"""Classifiers of transformers as labeling functions, with tiny random models from a config."""

from __future__ import annotations

import numpy as np
import pytest

from llmlabel.errors import ConfigError, UnknownNameError
from llmlabel.lf import apply, classifier, transformers_classifier, zero_shot_classifier
from llmlabel.schema import Task

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TASK = Task("t", ["A", "B"])
WORDS = ["a", "b", "c", "spam", "song", "good", "bad", ".", "about", "is", "this"]
TEXTS = ["a b c", "spam", "good song . " * 5, "", "this is about bad"]


def save_model(folder, labels):
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(vocabulary), model_max_length=32)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        initializer_range=1.0,
    )
    network = transformers.BertForSequenceClassification(config).eval()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, network


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    return folder, *save_model(folder, ["POS", "NEG", "OTHER"])


def alone(tokenizer, network, *texts):
    with torch.inference_mode():
        inputs = tokenizer(*([t] for t in texts), truncation=True, return_tensors="pt")
        return network(**inputs).logits.softmax(-1)[0].numpy()


def test_it_says_what_the_model_says_of_each_text_alone(sentiment):
    folder, tokenizer, network = sentiment
    votes = {"POS": "A", "NEG": "B", "OTHER": None}
    lf = transformers_classifier("clf", str(folder), votes, threshold=0.0)
    said, sure = lf({"text": TEXTS})
    for i, text in enumerate(TEXTS):
        expected = alone(tokenizer, network, text)
        best = int(expected.argmax())
        assert said[i] == (-1 if best == 2 else best)
        if best != 2:
            assert sure[i] == pytest.approx(expected.max(), abs=1e-4)
    order = np.array([4, 2, 0, 3, 1])
    again = lf({"text": [TEXTS[i] for i in order]})[0]
    np.testing.assert_array_equal(again, said[order])


def test_a_label_that_the_model_lacks_is_named_with_the_nearest(sentiment):
    lf = transformers_classifier("clf", str(sentiment[0]), {"POSS": "A"})
    with pytest.raises(UnknownNameError, match="unknown label 'POSS', did you mean 'POS'"):
        apply([lf], {"text": TEXTS}, TASK)


def test_zero_shot_compares_the_entailments_of_its_hypotheses(tmp_path):
    tokenizer, network = save_model(tmp_path, ["contradiction", "neutral", "entailment"])
    hypotheses = {"A": "this is about song", "B": "this is about spam"}
    lf = zero_shot_classifier("nli", str(tmp_path), hypotheses, threshold=0.0)
    said, sure = lf({"text": TEXTS})
    for i, text in enumerate(TEXTS):
        with torch.inference_mode():
            logits = [
                network(**tokenizer([text], [h], return_tensors="pt")).logits[0, 2].item()
                for h in hypotheses.values()
            ]
        powers = np.exp(np.array(logits) - max(logits))
        assert said[i] == int(np.argmax(logits))
        assert sure[i] == pytest.approx((powers / powers.sum()).max(), abs=1e-4)


def test_a_model_that_is_no_nli_model_is_said(sentiment):
    lf = zero_shot_classifier("nli", str(sentiment[0]), {"A": "a", "B": "b"})
    with pytest.raises(ConfigError, match="is no NLI model: no label 'entailment'"):
        lf({"text": TEXTS})


def test_a_model_that_is_not_there_is_said(tmp_path):
    lf = transformers_classifier("clf", str(tmp_path / "none"), {"POS": "A"})
    with pytest.raises(ConfigError, match="transformers cannot load"):
        lf({"text": ["a"]})


def test_a_scikit_learn_pipeline_votes():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good song", "bad spam"] * 10
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [0, 1] * 10)
    lf = classifier("old", model, ["A", "B"], threshold=0.6)
    assert lf({"text": ["a good song", "spam", "else"]})[0].tolist() == [0, 1, -1]
