#!/usr/bin/env python3
"""Makes golden/onnx/: two untrained image models as PyTorch exports them, and what they give for two images.

    python onnx_models.py FOLDER      # torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0

`resnet.onnx` (a residual network with batch norm) and `vit.onnx` (a vision transformer with two outputs), each with
its description for kshot. `expected.safetensors`: `images` [2, 16, 16, 3] in [0, 1], and under each model's name its
embeddings [2, features], computed by onnxruntime from the images, normalised and channels first.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.numpy import save_file
from torch import nn

MEAN = np.float32([0.48, 0.45, 0.4])
STD = np.float32([0.27, 0.26, 0.28])


class Residual(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 1, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.MaxPool2d(3, 2, 1), Residual(8, 8, 1), Residual(8, 16, 2), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return torch.flatten(self.body(self.stem(x)), 1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        n, tokens, width = x.shape
        parts = self.query_key_value(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(y.transpose(1, 2).reshape(n, tokens, width))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 17, width))
        self.layers = nn.Sequential(Attention(width, 3), Attention(width, 3))
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, 12)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = self.norm(self.layers(x))
        return self.project(x[:, 0]), x


def without_traces(path):
    """Takes out where in which program each node came from."""
    model = onnx.load(path)
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)


def main():
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((2, 16, 16, 3), dtype=np.float32)
    pixels = np.ascontiguousarray(((images - MEAN) / STD).transpose(0, 3, 1, 2))
    expected = {"images": images}
    for name, model, outputs in [("resnet", ResNet(), ["embedding"]), ("vit", ViT(), ["image_embeds", "tokens"])]:
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
        path = folder / f"{name}.onnx"
        torch.onnx.export(
            model.eval(),
            (torch.from_numpy(pixels),),
            path,
            input_names=["pixels"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
        )
        without_traces(path)
        lines = [f"mean = {[round(float(x), 2) for x in MEAN]}", f"std = {[round(float(x), 2) for x in STD]}"]
        if len(outputs) > 1:
            lines.append(f'output = "{outputs[0]}"')
        path.with_suffix(".toml").write_text("\n".join(lines) + "\n")
        expected[name] = onnxruntime.InferenceSession(path).run(None, {"pixels": pixels})[0]
    save_file(expected, folder / "expected.safetensors")


main()
