"""What the classes of a data set are called, and how a person may ask for one. Chapter 08."""

from __future__ import annotations

CLASS_NAMES = {
    "mnist": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
}  # fmt: skip

# How the classes are called in a sentence, and the sentences; the first of each is the prompt that
# scores use.
NOUNS = {
    "mnist": (
        "a zero", "a one", "a two", "a three", "a four",
        "a five", "a six", "a seven", "an eight", "a nine",
    ),
    "fashion_mnist": (
        "a t-shirt", "trousers", "a pullover", "a dress", "a coat",
        "a sandal", "a shirt", "a sneaker", "a bag", "an ankle boot",
    ),
    "cifar10": (
        "an airplane", "a car", "a bird", "a cat", "a deer",
        "a dog", "a frog", "a horse", "a ship", "a truck",
    ),
}  # fmt: skip
CAPTIONS = {
    "mnist": (
        "a handwritten {word}", "a handwritten {label}", "the digit {word}", "the digit {label}",
        "the number {word}", "the number {label}", "a picture of {noun}", "{noun}", "{word}",
        "{label}",
    ),
    "fashion_mnist": ("a picture of {noun}", "a photo of {noun}", "{noun}", "{word}"),
    "cifar10": ("a photo of {noun}", "a picture of {noun}", "{noun}", "{word}"),
}  # fmt: skip


def captions_for(dataset: str, label: int) -> list[str]:
    """Several phrasings for one class of "mnist", "fashion_mnist" or "cifar10"; the first is the
    one scores use."""
    if dataset not in CAPTIONS or label not in range(len(CLASS_NAMES[dataset])):
        raise ValueError(
            f"expected a data set of {sorted(CAPTIONS)} and a label from 0 to 9, "
            f"got {dataset!r}, {label}"
        )
    label = int(label)
    noun = NOUNS[dataset][label]
    phrases = [
        text.format(noun=noun, word=noun.split(" ", 1)[-1], label=label)
        for text in CAPTIONS[dataset]
    ]
    return list(dict.fromkeys(phrases))  # "trousers" has no article: two of its phrasings are one


def digit_captions(label: int) -> list[str]:
    """How a person may ask for a digit; scores use the first, "a handwritten seven"."""
    return captions_for("mnist", label)
