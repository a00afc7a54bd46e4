"""The same classifier as `kshot serve`, as it is usually served: FastAPI, uvicorn and PyTorch.

    serve_fastapi.py --weights MODEL.safetensors --examples FOLDER --port 8090 [--workers 2]

FOLDER has a folder of PNG files per class. `POST /classify` takes a picture as its body and answers with the most probable
classes, as kshot does without evidence. Written to be fast: norms folded into the convolutions, `inference_mode`,
channels last, uvloop and httptools; with one worker per core PyTorch keeps to one thread each, else it has all cores.
"""

import argparse
import io
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fastapi import FastAPI, Request
from PIL import Image
from safetensors import safe_open

SIDE = 28


class Folded:
    """Four blocks with the norms folded into the convolutions, from kshot's arrays (weights [ky, kx, in, out])."""

    def __init__(self, path):
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        self.layers = []
        for index in range(4):
            weight, gamma, beta, mean, variance = (
                torch.tensor(arrays[f"encoder.blocks.{index}.{name}"])
                for name in ("weight", "gamma", "beta", "running_mean", "running_variance")
            )
            weight = weight.permute(3, 2, 0, 1)
            scale = gamma / torch.sqrt(variance + 1e-5)
            shift = beta - mean * scale
            weight = (weight * scale[:, None, None, None]).contiguous(memory_format=torch.channels_last)
            self.layers.append((weight, shift))

    def __call__(self, images):
        for weight, shift in self.layers:
            images = F.max_pool2d(F.relu(F.conv2d(images, weight, shift, padding=1)), 2)
        return images.flatten(1)


def picture(data):
    """A PNG as the model takes it: ink 1 on paper 0, [28, 28]."""
    image = Image.open(io.BytesIO(data)).convert("L").resize((SIDE, SIDE), Image.BOX)
    ink = 255.0 - np.asarray(image, dtype=np.float32)
    return ink / max(float(ink.max()), 25.5)


def make(weights, examples, threads):
    torch.set_num_threads(threads)
    embed = Folded(weights)

    def batch(pictures):
        stacked = torch.from_numpy(np.stack(pictures))[:, None]
        return embed(stacked.contiguous(memory_format=torch.channels_last))

    folders = sorted(path for path in Path(examples).iterdir() if path.is_dir())
    names = [folder.name for folder in folders]
    with torch.inference_mode():
        prototypes = torch.stack(
            [batch([picture(file.read_bytes()) for file in sorted(folder.glob("*.png"))]).mean(0) for folder in folders]
        )
        squares = prototypes.square().sum(1)
    app = FastAPI()

    @app.post("/classify")
    async def classify(request: Request):
        data = await request.body()
        with torch.inference_mode():
            embedding = batch([picture(data)])
            logits = 2 * embedding @ prototypes.T - squares
            probabilities = logits.softmax(1)[0]
            values, indices = probabilities.topk(min(5, len(names)))
        ranked = [{"label": names[i], "probability": p} for p, i in zip(values.tolist(), indices.tolist())]
        return {"label": ranked[0]["label"], "probability": ranked[0]["probability"], "ranked": ranked}

    return app


def from_environment():
    """What uvicorn's workers call."""
    return make(os.environ["WEIGHTS"], os.environ["EXAMPLES"], int(os.environ["THREADS"]))


def main():
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--examples", required=True)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    os.environ.update(WEIGHTS=options.weights, EXAMPLES=options.examples, THREADS=str(max(1, cores // options.workers)))
    here = Path(__file__).resolve().parent
    uvicorn.run(
        "serve_fastapi:from_environment", factory=True, app_dir=str(here), host="127.0.0.1", port=options.port,
        workers=options.workers, loop="uvloop", http="httptools", log_level="error", access_log=False,
    )


if __name__ == "__main__":
    main()
