"""State dicts of a small Relation network as its authors' programs save them, and what that network scores.

The two modules are written anew by plain torch.nn, under the names of the authors' state dicts (Sung et al. 2018):
an encoder layer1..layer4 and a relation module layer1, layer2, fc1, fc2, each layer a convolution *with bias*, batch
normalisation (momentum 1), ReLU and, in the encoder's first two and in both of the module's, a 2x2 max-pool. Maps are
flattened channel by channel.

Files below crates/kshot/tests/golden/import/:

    encoder.pt, module.pt            torch.save as it is today (zip)
    encoder.pkl, module.pkl          torch.save before 1.6 (pickles one after another), with tensors spelled as
                                     torch 0.3 spelled them and without num_batches_tracked
    expanded.pt                      hostile: a tensor that claims 2^40 values, of which the file has one
    expected.safetensors             images [n, 28, 28, 1] ordered as common.py says, and log r [n_query, n_way]:
        running.scores               under the running statistics (eval mode)
        episode.scores               under batch statistics (train mode): support, query and pairs each by its own

Run it from anywhere: python bench/reference/relation_checkpoint.py
"""

import io
import pickle
import types

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

import common
from common import N_QUERIES, N_SHOT, N_WAY

SEED = 3
# Different, so that one in the other's place shows.
N_FILTERS, RELATION_FILTERS, HIDDEN = 6, 5, 8
FOLDER = common.GOLDEN / "import"


def layer(channels_in, channels_out, padding, pool):
    parts = [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=padding),
        nn.BatchNorm2d(channels_out, momentum=1, affine=True),
        nn.ReLU(),
    ]
    return nn.Sequential(*parts, *([nn.MaxPool2d(2)] if pool else []))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = layer(1, N_FILTERS, 0, True)
        self.layer2 = layer(N_FILTERS, N_FILTERS, 0, True)
        self.layer3 = layer(N_FILTERS, N_FILTERS, 1, False)
        self.layer4 = layer(N_FILTERS, N_FILTERS, 1, False)

    def forward(self, images):
        return self.layer4(self.layer3(self.layer2(self.layer1(images))))


class RelationModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = layer(2 * N_FILTERS, RELATION_FILTERS, 1, True)
        self.layer2 = layer(RELATION_FILTERS, RELATION_FILTERS, 1, True)
        self.fc1 = nn.Linear(RELATION_FILTERS, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, 1)

    def forward(self, pairs):
        maps = self.layer2(self.layer1(pairs))
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(maps.flatten(1)))))


def draw(module, rng):
    """Draws every parameter: biases, scales and shifts far enough from 0 and 1 that a forgotten one shows."""
    for name, parameter in module.named_parameters():
        if name.endswith("1.weight") and parameter.ndim == 1:
            values = rng.uniform(0.5, 1.5, parameter.shape)
        elif parameter.ndim == 1:
            values = 0.3 * rng.standard_normal(parameter.shape)
        else:
            values = rng.standard_normal(parameter.shape) * np.sqrt(2 / parameter[0].numel())
        parameter.data = torch.tensor(values, dtype=torch.float32)


def scores(encoder, module, images):
    """log r [n_query, n_way]: the class, summed over its shots, stands before the query in each pair."""
    support, query = (encoder(part) for part in common.split(images.permute(0, 3, 1, 2)))
    classes = support.reshape(N_WAY, N_SHOT, *support.shape[1:]).sum(dim=1)
    pairs = torch.cat(
        [classes.repeat(N_QUERIES, 1, 1, 1), query.repeat_interleave(N_WAY, dim=0)], dim=1
    )
    return module(pairs).reshape(N_QUERIES, N_WAY).log()


class OldPickler(pickle.Pickler):
    """Spells tensors as torch 0.3 did: torch._utils._rebuild_tensor(storage, offset, size, stride)."""

    def reducer_override(self, value):
        if isinstance(value, torch.Tensor):
            storage = value._typed_storage()
            return torch._utils._rebuild_tensor, (storage, value.storage_offset(), tuple(value.shape), value.stride())
        return NotImplemented


def old_dump(value, file, protocol):
    OldPickler(file, protocol=protocol).dump(value)


OLD = types.SimpleNamespace(__name__="old", Pickler=OldPickler, dump=old_dump)


def save_old(state, path):
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    buffer = io.BytesIO()
    torch.save(state, buffer, pickle_module=OLD, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    assert b"_rebuild_tensor\n" in content and b"_rebuild_tensor_v2" not in content
    path.write_bytes(content)


def main():
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = common.generator(SEED)
    encoder, module = Encoder(), RelationModule()
    draw(encoder, rng)
    draw(module, rng)
    images = torch.tensor(common.random_images(rng), dtype=torch.float32)
    with torch.no_grad():
        # With a momentum of 1 the running statistics are those of this batch.
        scores(encoder.train(), module.train(), torch.tensor(common.random_images(rng), dtype=torch.float32))
        for name, network in (("encoder", encoder), ("module", module)):
            torch.save(network.state_dict(), FOLDER / f"{name}.pt")
            save_old(network.state_dict(), FOLDER / f"{name}.pkl")
        running = scores(encoder.eval(), module.eval(), images)
        episode = scores(encoder.train(), module.train(), images)
    torch.save({"layer1.0.weight": torch.zeros(1).expand(2**40)}, FOLDER / "expanded.pt")
    arrays = {"images": images, "running.scores": running, "episode.scores": episode}
    metadata = {
        "program": "bench/reference/relation_checkpoint.py",
        "torch": torch.__version__.split("+")[0],
        "command": "python bench/reference/relation_checkpoint.py",
        "seed": str(SEED),
    }
    arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in arrays.items()}
    save_file(arrays, FOLDER / "expected.safetensors", metadata=metadata)
    for name, values in arrays.items():
        print(name, values.shape, f"{values.min():.4f} to {values.max():.4f}")


if __name__ == "__main__":
    main()
