from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from llmlabel.distill.features import Features
from llmlabel.distill.softmax import Choice, choose, fit_softmax

N, K, D, F = 60, 3, 5, 100


def make(
    n: int = N, k: int = K, d: int = D, f: int = F, seed: int = 0
) -> tuple[Features, np.ndarray]:
    """Rows whose targets follow from their features, softly."""
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((n, d)) / np.sqrt(max(d, 1))
    sparse = sp.random(n, f, density=0.1, format="csr", rng=rng)
    logits = dense @ rng.standard_normal((d, k)) * 3 + sparse @ rng.standard_normal((f, k))
    return Features(dense, sp.csr_matrix(sparse)), softmax(logits, axis=1)


def plain(features: Features) -> np.ndarray:
    return np.hstack([features.dense, features.sparse.toarray()])


def probabilities(features: Features, fitted: object) -> np.ndarray:
    return softmax(features.dot(fitted.coef) + fitted.intercept, axis=1)  # type: ignore[attr-defined]


def repeated(X: np.ndarray, targets: np.ndarray, weights: np.ndarray, C: float) -> np.ndarray:
    """scikit-learn's answer: each row once for each class, weighted by its probability."""
    k = targets.shape[1]
    model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000)
    model.fit(
        np.repeat(X, k, axis=0),
        np.tile(np.arange(k), len(X)),
        sample_weight=(targets * weights[:, None]).ravel(),
    )
    found: np.ndarray = model.predict_proba(X)
    return found


@pytest.mark.parametrize("f", [F, 0], ids=["in the span of the rows", "in the features"])
@pytest.mark.parametrize("C", [0.5, 20.0])
def test_the_optimum_is_that_of_scikit_learn_on_repeated_rows(f: int, C: float) -> None:
    features, targets = make(f=f)
    weights = np.random.default_rng(1).uniform(0.5, 2, N)
    fitted = fit_softmax(features, targets, weights, C)
    wanted = repeated(plain(features), targets, weights, C)
    np.testing.assert_allclose(probabilities(features, fitted), wanted, atol=2e-3)


def test_two_classes_are_those_of_scikit_learn_at_twice_the_c() -> None:
    # Two columns share the penalty that scikit-learn's one column bears alone.
    features, targets = make(k=2)
    fitted = fit_softmax(features, targets, np.ones(N), 1.0)
    wanted = repeated(plain(features), targets, np.ones(N), 2.0)
    np.testing.assert_allclose(probabilities(features, fitted), wanted, atol=2e-3)


def test_span_and_features_give_one_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = make()
    spanned = fit_softmax(features, targets, np.ones(N), 3.0, embedding_weight=2.0)
    monkeypatch.setattr("llmlabel.distill.softmax.GRAM_ROWS", 0)
    direct = fit_softmax(features, targets, np.ones(N), 3.0, embedding_weight=2.0)
    np.testing.assert_allclose(spanned.coef, direct.coef, atol=5e-3)


def test_the_embedding_weight_scales_the_features() -> None:
    features, targets = make()
    inside = fit_softmax(features, targets, np.ones(N), 3.0, embedding_weight=4.0)
    by_hand = Features(features.dense * 2, features.sparse)
    outside = fit_softmax(by_hand, targets, np.ones(N), 3.0)
    np.testing.assert_allclose(
        probabilities(features, inside), probabilities(by_hand, outside), atol=1e-6
    )


def test_weights_are_repetitions() -> None:
    features, targets = make()
    twice = np.r_[np.arange(N), np.arange(10)]
    weights = np.ones(N)
    weights[:10] = 2
    weighted = fit_softmax(features, targets, weights, 1.0)
    repeated_rows = fit_softmax(features.take(twice), targets[twice], np.ones(N + 10), 1.0)
    np.testing.assert_allclose(
        probabilities(features, weighted), probabilities(features, repeated_rows), atol=1e-3
    )


def test_a_class_without_mass_has_probability_zero_in_its_place() -> None:
    features, targets = make(k=4)
    targets[:, 1] = 0
    targets /= targets.sum(axis=1, keepdims=True)
    found = probabilities(features, fit_softmax(features, targets, np.ones(N), 1.0))
    assert np.all(found[:, 1] == 0)
    without = fit_softmax(features, np.delete(targets, 1, axis=1), np.ones(N), 1.0)
    np.testing.assert_allclose(np.delete(found, 1, axis=1), probabilities(features, without))


def test_one_class_alone_is_certain() -> None:
    features, _ = make()
    targets = np.tile([0.0, 1.0, 0.0], (N, 1))
    fitted = fit_softmax(features, targets, np.ones(N), 1.0)
    np.testing.assert_array_equal(probabilities(features, fitted), targets)


def test_classes_in_another_order_are_columns_in_another_order() -> None:
    features, targets = make()
    order = np.array([2, 0, 1])
    straight = probabilities(features, fit_softmax(features, targets, np.ones(N), 5.0))
    turned = probabilities(features, fit_softmax(features, targets[:, order], np.ones(N), 5.0))
    np.testing.assert_allclose(straight[:, order], turned, atol=1e-3)


def test_noise_calls_for_a_stronger_penalty() -> None:
    features, targets = make(n=300)
    noise = np.eye(K)[np.random.default_rng(2).integers(0, K, 300)]
    assert choose(features, noise, np.ones(300), seed=0).C == 1.0
    assert choose(features, targets, np.ones(300), seed=0).C > 1.0


def test_the_informative_block_gets_the_weight() -> None:
    rng = np.random.default_rng(3)
    n = 300
    labels = rng.integers(0, 2, n)
    signal = np.stack([labels * 2 - 1.0, np.ones(n)], axis=1) / np.sqrt(2)
    noise = sp.random(n, 400, density=0.05, format="csr", rng=rng)
    rows = np.eye(2)[labels] * 0.8 + 0.1
    features = Features(signal, sp.csr_matrix(noise / 2))
    assert choose(features, rows, np.ones(n), seed=0).embedding_weight == 4.0


def test_the_choice_depends_on_the_seed_alone() -> None:
    features, targets = make(n=90)
    first, again = (choose(features, targets, np.ones(90), seed=7) for _ in range(2))
    assert first == again


def test_few_rows_are_too_few_to_choose_by() -> None:
    features, targets = make(n=5)
    assert choose(features, targets, np.ones(5), seed=0) == Choice(10.0, 1.0, None, 5)


def test_the_search_is_on_a_sample_of_many_rows() -> None:
    features, targets = make(n=1_600, f=0)
    assert choose(features, targets, np.ones(1_600), seed=0).rows == 1_500
