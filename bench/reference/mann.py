"""Reference values for a memory-augmented network (Santoro et al. 2016) on one 5-way 2-shot sequence.

Writes mann.safetensors and mann-paper.safetensors. All tensors are float32. The 25 images of the episode are one
sequence, support first, class by class; the network sees image t with the label of image t - 1 (none at first). Each
image is scaled to 7x7 by the mean of its 4x4 squares and flattened, F = 49. H = 6 hidden units, 2 heads, a memory of
12 rows of W = 5. Outputs: 5. The usage of a row decays by 0.9 per step.

images                              [25, 28, 28, 1]  support first, then query, see common.py
input.weight, input.bias            [F + 5, 4 H], [4 H]   gates input, forget, output, candidate
recurrent                           [H + 2 W, 4 H]        from the last h and what both heads read
heads.weight, heads.bias            [H, n], [n]
    mann:        keys (2 W), vectors to write (2 W), alpha (2), factor of the cosines before softplus (2)
    mann-paper:  keys (2 W), alpha (2); the key is written, the factor is 1
output.weight, output.bias          [H + 2 W, 5], [5]
loss [1], logits [15, 5]            mean cross-entropy of all 25 answers; the logits of the queries
grad.<parameter>                    gradient of the loss
scores [15, 5]                      logits of each query alone as the eleventh image, after the support set
presented [25, 5]                   logits of all answers of the sequence

Run it from anywhere: python bench/reference/mann.py
"""

import torch
import torch.nn.functional as F

import common
from common import N_QUERIES, N_SHOT, N_SUPPORT, N_WAY

HIDDEN, HEADS, ROWS, WIDTH = 6, 2, 12, 5
SIDE, DECAY, EPSILON = 7, 0.9, 1e-6


def random_inputs(vector_and_factor):
    emitted = HEADS * (2 * WIDTH + 2 if vector_and_factor else WIDTH + 1)

    def draw(seed):
        rng = common.generator(seed)
        fed_back = HIDDEN + HEADS * WIDTH
        shapes = {
            "input.weight": (SIDE * SIDE + N_WAY, 4 * HIDDEN),
            "input.bias": (4 * HIDDEN,),
            "recurrent": (fed_back, 4 * HIDDEN),
            "heads.weight": (HIDDEN, emitted),
            "heads.bias": (emitted,),
            "output.weight": (fed_back, N_WAY),
            "output.bias": (N_WAY,),
        }
        return {"images": common.random_images(rng)} | {name: rng.uniform(-0.8, 0.8, shape) for name, shape in shapes.items()}

    return draw


class Network:
    """One sequence's state and the step that moves it."""

    def __init__(self, tensors, trace):
        like = tensors["recurrent"]
        self.tensors, self.trace = tensors, trace
        self.hidden, self.cell = like.new_zeros(HIDDEN), like.new_zeros(HIDDEN)
        self.found, self.read = like.new_zeros(HEADS * WIDTH), like.new_zeros(HEADS, ROWS)
        self.memory, self.usage = like.new_zeros(ROWS, WIDTH), like.new_zeros(ROWS)

    def step(self, features, label):
        t = self.tensors
        heard = features.new_zeros(N_WAY)
        if label is not None:
            heard[label] = 1
        gates = torch.cat([features, heard]) @ t["input.weight"] + t["input.bias"]
        gates = gates + torch.cat([self.hidden, self.found]) @ t["recurrent"]
        i, f, o, u = gates.split(HIDDEN)
        self.cell = torch.sigmoid(f) * self.cell + torch.sigmoid(i) * torch.tanh(u)
        self.hidden = torch.sigmoid(o) * torch.tanh(self.cell)
        emitted = self.hidden @ t["heads.weight"] + t["heads.bias"]
        long = len(emitted) > HEADS * (WIDTH + 1)
        keys = torch.tanh(emitted[: HEADS * WIDTH].reshape(HEADS, WIDTH))
        at = HEADS * WIDTH
        written = keys
        if long:
            written = torch.tanh(emitted[at : 2 * at].reshape(HEADS, WIDTH))
            at = 2 * at
        alpha = torch.sigmoid(emitted[at : at + HEADS])
        factor = F.softplus(emitted[at + HEADS :]) if long else torch.ones_like(alpha)

        # Stable: of equally used rows the first.
        order = torch.argsort(self.usage, stable=True)
        used = self.usage[order]
        # Exactly equal use is decided by the row in every program.
        gaps = (used[1 : HEADS + 1] - used[:HEADS]).abs()
        if (gaps > 0).any():
            self.trace.call(gaps[gaps > 0].min().item())
        rows = []
        memory = self.memory.clone()
        memory[order[:HEADS]] = 0
        for head in range(HEADS):
            least = torch.zeros(ROWS, dtype=memory.dtype)
            least[order[head]] = 1
            weights = alpha[head] * self.read[head] + (1 - alpha[head]) * least
            memory = memory + weights[:, None] * written[head]
            rows.append(weights)
        reads, found = [], []
        for head in range(HEADS):
            lengths = (memory.square().sum(1) + EPSILON).sqrt() * (keys[head].square().sum() + EPSILON).sqrt()
            reads.append(torch.softmax(factor[head] * (memory @ keys[head]) / lengths, dim=0))
            found.append(reads[-1] @ memory)
        self.memory, self.read, self.found = memory, torch.stack(reads), torch.cat(found)
        self.usage = DECAY * self.usage + (self.read + torch.stack(rows)).sum(0).detach()
        return torch.cat([self.hidden, self.found]) @ t["output.weight"] + t["output.bias"]


def evaluate(tensors):
    trace = common.Trace()
    features = F.avg_pool2d(tensors["images"].permute(0, 3, 1, 2), 4).flatten(1)
    labels = torch.cat([torch.arange(N_WAY).repeat_interleave(N_SHOT), common.query_labels()]).tolist()
    network = Network(tensors, trace)
    heard = [None, *labels[:-1]]
    presented = torch.stack([network.step(x, label) for x, label in zip(features, heard, strict=True)])
    loss = F.cross_entropy(presented, torch.tensor(labels))
    scores = []
    for query in range(N_QUERIES):
        network = Network(tensors, trace)
        for t in range(N_SUPPORT):
            network.step(features[t], heard[t])
        scores.append(network.step(features[N_SUPPORT + query], labels[N_SUPPORT - 1]))
    results = {
        "loss": loss.reshape(1),
        "logits": presented[N_SUPPORT:],
        "presented": presented,
        "scores": torch.stack(scores),
    }
    return results | common.gradients(loss, common.trainable(tensors)), trace.margin


if __name__ == "__main__":
    facts = {"hidden": HIDDEN, "heads": HEADS, "rows": ROWS, "width": WIDTH, "usage_decay": DECAY}
    files = {
        "mann": (random_inputs(True), evaluate, facts),
        "mann-paper": (random_inputs(False), evaluate, facts),
    }
    common.main("mann.py", __doc__, files, 31, "31 keeps the least used rows apart")
