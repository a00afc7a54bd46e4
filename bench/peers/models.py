"""The networks and the loss of the comparison, in PyTorch.

Nothing here is particular to a mode: `step.py` decides on memory format and compilation.
Inputs are NCHW tensors; embeddings are [n, d].
"""

import torch
import torch.nn.functional as F
from torch import nn


class Conv4(nn.Module):
    """4 x [conv 3x3 pad 1, batch norm, ReLU, max-pool 2x2]: 28x28x1 to 64 numbers (Snell et al. 2017)."""

    def __init__(self, channels_in=1, n_filters=64):
        super().__init__()
        blocks = []
        for _ in range(4):
            blocks += [
                # No bias: the norm's shift takes its place.
                nn.Conv2d(channels_in, n_filters, 3, padding=1, bias=False),
                nn.BatchNorm2d(n_filters),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            channels_in = n_filters
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images):
        return self.blocks(images).flatten(1)


class ResidualBlock(nn.Module):
    """3 x [conv 3x3, batch norm], LeakyReLU 0.1 between, 1x1 convolution + norm beside, max-pool 2x2."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        layers = []
        for i in range(3):
            layers += [
                nn.Conv2d(channels_in if i == 0 else channels_out, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
            ]
            if i < 2:
                layers.append(nn.LeakyReLU(0.1, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, images):
        return F.max_pool2d(F.leaky_relu(self.layers(images) + self.shortcut(images), 0.1), 2)


class ResNet12(nn.Module):
    """Four residual blocks, 64-128-256-512 filters, then the mean over places: 84x84x3 to 512 numbers."""

    def __init__(self, channels_in=3, widths=(64, 128, 256, 512)):
        super().__init__()
        channels = (channels_in, *widths)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in zip(channels, channels[1:])))

    def forward(self, images):
        return self.blocks(images).mean(dim=(2, 3))


def prototypical_loss(embeddings, n_way, n_shot, labels):
    """Mean negative log-likelihood of the queries; support rows come first, class by class.

    A query's own squared norm is the same for every class, so softmax does not see it: it is left out.
    """
    n_support = n_way * n_shot
    support, query = embeddings[:n_support], embeddings[n_support:]
    prototypes = support.reshape(n_way, n_shot, -1).mean(dim=1)
    logits = 2 * query @ prototypes.T - prototypes.square().sum(dim=1)
    return F.cross_entropy(logits, labels)


def query_labels(n_way, n_queries):
    """Labels [n_queries]: class by class where each class has the same number, else in turn."""
    if n_queries % n_way == 0:
        return torch.arange(n_way).repeat_interleave(n_queries // n_way)
    return torch.arange(n_queries) % n_way
