import torch

from minildm.classifiers import ImageClassifier
from minildm.losses import perceptual_loss, reconstruction_loss


def pictures():
    return torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def critic():
    return ImageClassifier(8, num_classes=2, block_out_channels=(4, 8), feature_dim=4).eval()


def test_a_perfect_reconstruction_costs_nothing():
    images, _ = pictures()
    assert reconstruction_loss(images, images) == perceptual_loss(critic(), images, images) == 0


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    """So that processes which share a batch follow the gradient of the whole."""
    images, others = pictures()
    network = critic()
    for loss in (reconstruction_loss, lambda a, b: perceptual_loss(network, a, b)):
        parts = [loss(a, b) for a, b in zip(others.split(2), images.split(2), strict=True)]
        torch.testing.assert_close(loss(others, images), torch.stack(parts).mean())


def test_the_perceptual_loss_does_not_depend_on_how_loud_a_layer_is():
    images, others = pictures()
    network = critic()
    before = perceptual_loss(network, others, images)
    for parameter in network.blocks[-1][4].parameters():  # the last normalisation's scale and shift
        parameter.data *= 10
    torch.testing.assert_close(perceptual_loss(network, others, images), before)


def test_gradients_reach_the_reconstruction_alone():
    images, others = (part.requires_grad_() for part in pictures().unbind())
    perceptual_loss(critic(), others, images).backward()
    assert others.grad.abs().sum() > 0 and images.grad is None
