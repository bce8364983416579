"""minildm.data.captions: what a person may ask for."""

import pytest
import torch

from minildm.data import captions_for, digit_captions


def test_captions_of_a_class_are_several_and_name_no_other_class():
    assert digit_captions(7)[0] == "a handwritten seven"
    assert {"the digit 7", "seven", "a picture of a seven"} <= set(digit_captions(7))
    assert "a picture of an eight" in digit_captions(torch.tensor(8))
    assert captions_for("cifar10", 3)[0] == "a photo of a cat"
    for dataset, least in (("mnist", 8), ("fashion_mnist", 3), ("cifar10", 4)):
        phrases = [captions_for(dataset, label) for label in range(10)]
        assert min(map(len, phrases)) >= least
        assert len({phrase for some in phrases for phrase in some}) == sum(map(len, phrases))
    with pytest.raises(ValueError, match="got 'mnist', 10"):
        digit_captions(10)
