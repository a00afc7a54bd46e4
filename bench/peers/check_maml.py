"""Checks that every MAML mode of step.py computes the same meta-gradient, in f64 on a small meta-batch.

    python check_maml.py [--compiled]

Prints each mode's largest difference from the task-by-task loop, relative to the largest entry of each
gradient, and fails above 1e-10. --compiled adds the compiled modes (minutes). The last line is no mode
of ours: vmap with torch's own batch norm, for which that difference says why it is not used.
"""

import argparse
import sys

import torch

import steps

TOLERANCE = 1e-10


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compiled", action="store_true", help="the compiled modes as well")
    compiled_too = parser.parse_args().compiled
    torch.set_default_dtype(torch.float64)

    # Name, channels_last, compiled, by_vmap.
    modes = [("channels_last", True, False, False), ("vmap", False, False, True)]
    if compiled_too:
        modes += [
            ("compile", False, True, False),
            ("compile+channels_last", True, True, False),
            ("compile+vmap", False, True, True),
        ]
    reference = meta_gradient(False, False, False)
    wrong = []
    for name, *switches in modes:
        difference = relative_difference(meta_gradient(*switches), reference)
        print(f"{name}: {difference:.1e}", flush=True)
        if difference > TOLERANCE:
            wrong.append(name)
    steps.written_out_batch_norm = steps.fused_batch_norm
    print(f"vmap with torch's batch norm: {relative_difference(meta_gradient(False, False, True), reference):.1e}")
    if wrong:
        sys.exit(f"not the gradient of the loop: {', '.join(wrong)}")


def meta_gradient(channels_last, compiled, by_vmap):
    """Gradients after one step from fixed weights and images, the update left out."""
    torch.manual_seed(1)
    options = argparse.Namespace(task="maml", way=5, shot=1, query=2, tasks=2, inner_steps=2, images=None)
    gradients = []

    def keep(optimizer, *_, **__):
        gradients.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    update, torch.optim.Adam.step = torch.optim.Adam.step, keep
    try:
        steps.maml_step(options, channels_last, compiled, by_vmap)()
    finally:
        torch.optim.Adam.step = update
    return gradients


def relative_difference(gradients, reference):
    return max(
        ((got - wanted).abs().max() / wanted.abs().max()).item() for got, wanted in zip(gradients, reference)
    )


if __name__ == "__main__":
    main()
