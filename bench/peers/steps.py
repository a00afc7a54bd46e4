"""One step of each task as a closure, in the fastest way that each PyTorch mode allows.

Every builder takes the options and two switches, `channels_last` and `compiled`, and returns `step()`,
which does all the work of one step and returns the loss (None for inference). On a GPU the images of a step
come from host memory.
"""

import torch
import torch.nn.functional as F
from torch._inductor import config as inductor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from measure import images_per_step
from models import Conv4, ResNet12, prototypical_loss, query_labels

# So that no step sees a batch that it has just learned by heart.
N_BATCHES = 4


def batches(n_images, channels, size, channels_last, device):
    """In host memory; for a GPU in pages that it can copy from by itself."""
    images = [torch.rand(n_images, channels, size, size) for _ in range(N_BATCHES)]
    images = [x.contiguous(memory_format=memory_format(channels_last)) for x in images]
    return [x.pin_memory() for x in images] if device == "cuda" else images


def memory_format(channels_last):
    return torch.channels_last if channels_last else torch.contiguous_format


def in_turn(items):
    """An endless iterator over `items`."""
    while True:
        yield from items


def compile_whole(function, compiled, graphs=False):
    """One graph, fixed shapes; a graph break would be an error, not a silent slow path. `graphs`: as CUDA graphs."""
    mode = "reduce-overhead" if graphs else None
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode) if compiled else function


def metric_step(options, channels_last, compiled, graphs=False):
    """A meta-training step of a Prototypical Network: forward, backward, Adam."""
    if options.task == "resnet12":
        model, channels, size = ResNet12(), 3, 84
    else:
        model, channels, size = Conv4(), 1, 28
    device = options.device
    model = model.to(device=device, memory_format=memory_format(channels_last)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    n_images = images_per_step(options)
    labels = query_labels(options.way, n_images - options.way * options.shot).to(device)

    def loss_of(images):
        return prototypical_loss(model(images), options.way, options.shot, labels)

    loss_of = compile_whole(loss_of, compiled, graphs)
    episodes = in_turn(batches(n_images, channels, size, channels_last, device))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(next(episodes).to(device, non_blocking=True))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def inference_step(options, channels_last, how):
    """Embeddings of some images in eval mode. `how` is "eager", "compile" or "jit".

    The norms are folded into the convolutions beforehand; `compile` may also rearrange the weights once
    (freezing), and `jit` is TorchScript, frozen and optimised. From a GPU the embeddings come back to the host.
    """
    device = options.device
    model = Conv4().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    layers = list(model.blocks)
    pairs = zip(layers[0::4], layers[1::4])
    folded = [layer for conv, norm in pairs for layer in (fuse_conv_bn_eval(conv, norm), *layers[2:4])]
    model.blocks = torch.nn.Sequential(*folded)
    model = model.to(device=device, memory_format=memory_format(channels_last)).requires_grad_(False)
    inputs = batches(images_per_step(options), 1, 28, channels_last, device)

    if how == "compile":
        inductor.freezing = True
        model = compile_whole(model, compiled=True)
    elif how == "jit":
        model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, inputs[0].to(device))))
    inputs = in_turn(inputs)

    def step():
        with torch.inference_mode():
            model(next(inputs).to(device, non_blocking=True)).cpu()

    return step


def maml_step(options, channels_last, compiled, by_vmap):
    """Exact second-order MAML (Finn et al. 2017): Conv4-64 and a linear head, all weights adapted.

    Batch norm uses the statistics of the batch at hand, in support and query (transductive).
    Under vmap the norm is written out: torch 2.15's own gives wrong second derivatives there without
    a word (the meta-gradient is off by up to 0.6 %, in f64 as well; `check_maml.py` shows it).
    """
    batch_norm = written_out_batch_norm if by_vmap else fused_batch_norm
    inner_lr = 0.4 if options.inner_steps == 1 else 0.1
    n_support, n_images = options.way * options.shot, options.way * (options.shot + options.query)
    support_labels = query_labels(options.way, n_support)
    labels = query_labels(options.way, n_images - n_support)
    parameters = maml_parameters(options.way, channels_last)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def adapted_loss(weights, images):
        support, query = images[:n_support], images[n_support:]
        for _ in range(options.inner_steps):
            gradients = torch.func.grad(maml_loss)(weights, support, support_labels, batch_norm)
            weights = [w - inner_lr * g for w, g in zip(weights, gradients)]
        return maml_loss(weights, query, labels, batch_norm)

    def loop_of_autograd(images):
        total = 0.0
        for task in images:
            support, query = task[:n_support], task[n_support:]
            weights = parameters
            for _ in range(options.inner_steps):
                loss = maml_loss(weights, support, support_labels, batch_norm)
                gradients = torch.autograd.grad(loss, weights, create_graph=True)
                weights = [w - inner_lr * g for w, g in zip(weights, gradients)]
            loss = maml_loss(weights, query, labels, batch_norm) / len(images)
            loss.backward()
            total += loss.detach()
        return total

    task_gradient = compile_whole(torch.func.grad_and_value(adapted_loss), compiled)

    def loop_of_transforms(images):
        total, sums = 0.0, None
        with torch.no_grad():
            for task in images:
                gradients, loss = task_gradient(parameters, task)
                total += loss / len(images)
                if sums is None:
                    sums = [g.clone() for g in gradients]
                else:
                    torch._foreach_add_(sums, list(gradients))
            torch._foreach_div_(sums, len(images))
        for parameter, gradient in zip(parameters, sums):
            parameter.grad = gradient
        return total

    def all_tasks(weights, images):
        return torch.func.vmap(adapted_loss, in_dims=(None, 0))(weights, images).mean()

    batch_gradient = compile_whole(torch.func.grad_and_value(all_tasks), compiled)

    def vmap_of_transforms(images):
        with torch.no_grad():
            gradients, loss = batch_gradient(parameters, images)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        return loss

    if by_vmap:
        meta_gradient = vmap_of_transforms
    else:
        meta_gradient = loop_of_transforms if compiled else loop_of_autograd
    # One channel: both memory formats lay these images out alike.
    meta_batches = in_turn([torch.rand(options.tasks, n_images, 1, 28, 28) for _ in range(N_BATCHES)])

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = meta_gradient(next(meta_batches))
        optimizer.step()
        return loss

    return step


def maml_parameters(n_way, channels_last):
    """[weight, gamma, beta] of four blocks, then the head's weight and bias."""
    model = Conv4().to(memory_format=memory_format(channels_last))
    head = torch.nn.Linear(64, n_way)
    return [*model.parameters(), *head.parameters()]


def maml_loss(weights, images, labels, batch_norm):
    for weight, gamma, beta in zip(weights[0:12:3], weights[1:12:3], weights[2:12:3]):
        images = batch_norm(F.conv2d(images, weight, padding=1), gamma, beta)
        images = F.max_pool2d(F.relu(images), 2)
    return F.cross_entropy(F.linear(images.flatten(1), weights[12], weights[13]), labels)


def fused_batch_norm(images, gamma, beta):
    return F.batch_norm(images, None, None, gamma, beta, training=True)


def written_out_batch_norm(images, gamma, beta):
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    centred = images - mean
    variance = centred.square().mean(dim=(0, 2, 3), keepdim=True)
    scale = gamma[:, None, None] * torch.rsqrt(variance + 1e-5)
    return centred * scale + beta[:, None, None]
