"""An evaluation loop of each metric method in PyTorch: episodes answered one after the other, accuracies kept.

Every episode is one pass through the encoder (support and queries together, which running statistics allow) and the
method's head over all queries at once. The norms are folded into the convolutions beforehand.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from measure import images_per_step
from models import query_labels
from steps import compile_whole, in_turn, memory_format


def block(channels_in, channels_out, padding=1, pool=True):
    """A folded block: the norm's scale and shift are in the convolution's weight and bias."""
    norm = nn.BatchNorm2d(channels_out).eval()
    with torch.no_grad():
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    conv = fuse_conv_bn_eval(nn.Conv2d(channels_in, channels_out, 3, padding=padding).eval(), norm)
    return [conv, nn.ReLU(inplace=True), *([nn.MaxPool2d(2)] if pool else [])]


class Evaluated(nn.Module):
    """[n, 1, 28, 28], support first and class by class, to scores [n_queries, n_way]."""

    def __init__(self, options):
        super().__init__()
        self.method, self.way, self.shot = options.method, options.way, options.shot
        padded = 0 if self.method == "relation" else 1
        late = self.method != "relation"
        self.encoder = nn.Sequential(
            *block(1, 64, padded), *block(64, 64, padded), *block(64, 64, 1, late), *block(64, 64, 1, late)
        )
        self.odds = nn.Linear(64, 1)
        self.module = nn.Sequential(*block(128, 64), *block(64, 64))
        self.hidden, self.output = nn.Linear(64, 8), nn.Linear(8, 1)

    def forward(self, images):
        maps = self.encoder(images)
        n_support = self.way * self.shot
        if self.method == "relation":
            return self.relations(maps[:n_support], maps[n_support:])
        features = maps.flatten(1)
        support, query = features[:n_support], features[n_support:]
        if self.method == "prototypical":
            prototypes = support.reshape(self.way, self.shot, -1).mean(dim=1)
            return 2 * query @ prototypes.T - prototypes.square().sum(dim=1)
        if self.method == "matching":
            attention = (10 * F.normalize(query, dim=1) @ F.normalize(support, dim=1).T).softmax(dim=1)
            return attention.reshape(len(query), self.way, self.shot).sum(dim=2)
        odds = self.odds((query[:, None] - support[None]).abs())
        return odds.reshape(len(query), self.way, self.shot).mean(dim=2)

    def relations(self, support, query):
        classes = support.reshape(self.way, self.shot, *support.shape[1:]).sum(dim=1)
        n, m = len(query), len(classes)
        pairs = torch.cat(
            [classes.repeat(n, 1, 1, 1), query.repeat_interleave(m, dim=0)], dim=1
        )
        joined = self.module(pairs).flatten(1)
        return torch.sigmoid(self.output(F.relu(self.hidden(joined)))).reshape(n, m)


def evaluation_step(options, channels_last, compiled):
    """Answers `--tasks` episodes and returns nothing; their accuracies are formed."""
    layout = memory_format(channels_last)
    model = Evaluated(options).eval().to(memory_format=layout).requires_grad_(False)
    n_images = images_per_step(options) // options.tasks
    labels = query_labels(options.way, n_images - options.way * options.shot)
    answer = compile_whole(model, compiled)
    episodes = [
        torch.rand(n_images, 1, 28, 28).contiguous(memory_format=layout) for _ in range(options.tasks)
    ]
    turns = in_turn([episodes])

    def step():
        accuracies = []
        with torch.inference_mode():
            for images in next(turns):
                scores = answer(images)
                accuracies.append((scores.argmax(dim=1) == labels).float().mean().item())
        assert len(accuracies) == options.tasks

    return step
