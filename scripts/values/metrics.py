#!/usr/bin/env python3
"""Values of metrics; scripts/pytorch_values.py describes the form of the file.

    pip install torch numpy safetensors scikit-learn scikit-image rapidfuzz
    python3 scripts/values/metrics.py tests/data/metrics.safetensors

Inputs are predictions and targets of all items; outputs the figure, and where
there is one for each class (or output), a vector of them. Stored with
scikit-learn 1.9, scikit-image 0.26, PyTorch 2.15 and rapidfuzz 3. Calibration
error is written from its paper: none of them has it.
"""

import pathlib
import sys
import warnings
import zlib

import numpy as np
import rapidfuzz.distance
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pytorch_values as values

CLASSES = 4


def case(name, metric, attrs, predictions, targets, value, by_class=None):
    # Named by their content: many figures are of the same items.
    inputs = [values.store(f"in.{zlib.crc32(array.tobytes()):08x}", array) for array in (predictions, targets)]
    results = [np.float64(value)] + ([] if by_class is None else [np.asarray(by_class, np.float64)])
    outputs = [values.store(f"{name}.out{i}", result) for i, result in enumerate(results)]
    special = {} if all(np.isfinite(result).all() for result in results) else {"special": True}
    values.add_case(name, metric, {**attrs, **special}, inputs, outputs)


def classified(name, n=90, classes=CLASSES, absent=None):
    """Logits that are right more often than not, and labels."""
    rng = values.generator(name)
    labels = values.integers(rng, (n,), classes)
    if absent is not None:
        labels[labels == absent] = 0
    logits = values.normal(rng, (n, classes))
    logits[np.arange(n), labels] += values.f32(1.25)
    return logits, labels


def scores(name, logits, labels, classes=CLASSES, **attrs):
    """All figures of a confusion matrix."""
    predicted, all_classes = logits.argmax(1), list(range(classes))
    arguments = {"labels": all_classes, "zero_division": 0}

    def add(score, value, by_class=None, **more):
        case(f"{name}/{score}", score, {"classes": classes, **attrs, **more}, logits, labels, value, by_class)

    recalls = sk.recall_score(labels, predicted, average=None, **arguments)
    add("accuracy", sk.accuracy_score(labels, predicted), recalls)
    add("mcc", sk.matthews_corrcoef(labels, predicted))
    add("cohen_kappa", sk.cohen_kappa_score(labels, predicted, labels=all_classes))
    for average in ("macro", "micro", "weighted"):
        for score, function in {
            "precision": sk.precision_score,
            "recall": sk.recall_score,
            "iou": sk.jaccard_score,
            "dice": sk.f1_score,
        }.items():
            each = function(labels, predicted, average=None, **arguments)
            add(f"{score}_{average}", function(labels, predicted, average=average, **arguments), each)
        for beta in (0.5, 1, 2):
            each = sk.fbeta_score(labels, predicted, beta=beta, average=None, **arguments)
            value = sk.fbeta_score(labels, predicted, beta=beta, average=average, **arguments)
            add(f"f{beta}_{average}", value, each)


def calibration_error(logits, labels, bins):
    shares = F.softmax(torch.from_numpy(logits).double(), 1).numpy()
    confidence, right = shares.max(1), shares.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    gaps = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gaps += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return gaps


def of_classes():
    logits, labels = classified("classes")
    scores("classes", logits, labels)
    # A class that is predicted and never is, as in the matrix's own tests.
    scores("absent", *classified("absent", n=40, absent=3))
    # One class alone, found always.
    certain = np.zeros((12, CLASSES), np.float32)
    certain[:, 1] = 1
    scores("one", certain, np.ones(12, np.int32))
    for k in (1, 2, 3):
        value = sk.top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES))
        case(f"top_{k}", "top_k", {"k": k}, logits, labels, value)
    for bins in (15, 4):
        case(f"calibration_{bins}", "calibration_error", {"bins": bins}, logits, labels, calibration_error(logits, labels, bins))
    # Padding is left out.
    padded = np.where(values.integers(values.generator("padding"), labels.shape, 3) == 0, -100, labels).astype(np.int32)
    kept = padded != -100
    case("accuracy_ignored", "accuracy_ignored", {}, logits, padded, sk.accuracy_score(padded[kept], logits[kept].argmax(1)))
    x, t = torch.from_numpy(logits).double(), torch.from_numpy(labels).long()
    case("perplexity", "perplexity", {}, logits, labels, F.cross_entropy(x, t).exp())
    value = F.cross_entropy(x, torch.from_numpy(padded).long()).exp()
    case("perplexity_ignored", "perplexity_ignored", {}, logits, padded, value)


def segmentation():
    rng = values.generator("segmentation")
    labels = values.integers(rng, (6, 5, 7), 3)
    logits = values.normal(rng, (6, 3, 5, 7))
    logits += values.f32(1.5) * np.moveaxis(np.eye(3, dtype=np.float32)[labels], 3, 1)
    flat, predicted = labels.ravel(), logits.argmax(1).ravel()
    each = sk.jaccard_score(flat, predicted, average=None)
    case("segmentation", "iou_macro", {"classes": 3}, logits, labels, each.mean(), each)


def ranked():
    logits, labels = classified("ranked")
    # Rounded, so that there are ties.
    logits = values.f32(np.round(logits * 4) / 4)
    one, is_one = logits[:, 1], (labels == 1).astype(np.int32)
    case("auroc_binary", "auroc", {}, one, is_one, sk.roc_auc_score(is_one, one))
    case("average_precision_binary", "average_precision", {}, one, is_one, sk.average_precision_score(is_one, one))
    shown = np.eye(CLASSES)[labels]
    each = sk.roc_auc_score(shown, logits, average=None)
    case("auroc", "auroc", {}, logits, labels, sk.roc_auc_score(shown, logits, average="macro"), each)
    each = sk.average_precision_score(shown, logits, average=None)
    case("average_precision", "average_precision", {}, logits, labels, each.mean(), each)
    alike = np.zeros(len(one), np.int32)
    case("auroc_one_class", "auroc", {}, one, alike, sk.roc_auc_score(alike, one))
    case("average_precision_one_class", "average_precision", {}, one, alike, sk.average_precision_score(alike, one))

    rng = values.generator("ndcg")
    gains = values.f32(values.integers(rng, (20, 9), 5))
    gains[3] = 0
    documents = values.f32(np.round(values.normal(rng, (20, 9)) + 0.4 * gains))
    for k in (None, 1, 5):
        case(f"ndcg_{k}", "ndcg", {"k": k}, documents, gains, sk.ndcg_score(gains, documents, k=k))


def numbers():
    for name, shape, offset in [("one", (70,), 0.0), ("several", (45, 3), 0.0), ("far", (70,), 4000.0)]:
        rng = values.generator(f"regression {name}")
        targets = values.f32(values.normal(rng, shape) + offset)
        predictions = values.f32(targets + 0.5 * values.normal(rng, shape))
        y, x = targets.astype(np.float64), predictions.astype(np.float64)

        def add(metric, value, by_class=None):
            case(f"{metric}/{name}", metric, {}, predictions, targets, value, by_class)

        add("mae", sk.mean_absolute_error(y, x))
        add("mse", sk.mean_squared_error(y, x))
        add("rmse", np.sqrt(sk.mean_squared_error(y, x)))
        add("mape", sk.mean_absolute_percentage_error(y, x))
        each = sk.r2_score(y, x, multioutput="raw_values")
        add("r2", sk.r2_score(y, x), each if len(shape) == 2 else None)
    same, other = np.full(9, 0.1, np.float32), np.full(9, 0.3, np.float32)
    case("r2/constant", "r2", {}, other, same, sk.r2_score(same, other))
    case("r2/constant_right", "r2", {}, same, same, sk.r2_score(same, same))
    case("r2/single", "r2", {}, other[:1], same[:1], sk.r2_score(same[:1], other[:1]))


def images():
    for channels, height, width in [(1, 17, 14), (3, 12, 19)]:
        name = f"{channels}x{height}x{width}"
        rng = values.generator(f"images {name}")
        smooth = np.cumsum(values.normal(rng, (5, channels, height, width)), 3) * 0.1 + 0.5
        targets = values.f32(np.clip(smooth, 0, 1))
        predictions = values.f32(np.clip(targets + 0.1 * values.normal(rng, targets.shape), 0, 1))
        y, x = targets.astype(np.float64), predictions.astype(np.float64)
        noise = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(y, x)]
        case(f"psnr/{name}", "psnr", {"range": 1.0}, predictions, targets, np.mean(noise))
        likeness = [
            structural_similarity(
                a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            for a, b in zip(y, x)
        ]
        case(f"ssim/{name}", "ssim", {"range": 1.0}, predictions, targets, np.mean(likeness))


def sequences():
    rng = values.generator("sequences")
    targets = values.integers(rng, (12, 9), 5)
    predictions = targets[:, :7].copy()
    changed = values.integers(rng, predictions.shape, 3) == 0
    predictions[changed] = values.integers(rng, (int(changed.sum()),), 5)
    # Some are shorter; 0 is padding, wherever it stands.
    for row, length in enumerate(values.integers(rng, (12,), 9)):
        targets[row, length + 1 :] = 0
    words = [[[int(token) for token in row if token] for row in x] for x in (predictions, targets)]
    edits = sum(rapidfuzz.distance.Levenshtein.distance(a, b) for a, b in zip(*words))
    case("edit_distance", "edit_distance", {"padding": 0}, predictions, targets, edits / sum(map(len, words[1])))


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: python3 {sys.argv[0]} FILE")
    values.prepare()
    # Undefined figures are among what is stored.
    warnings.simplefilter("ignore")
    for part in (of_classes, segmentation, ranked, numbers, images, sequences):
        part()
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
