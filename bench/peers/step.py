"""Times one step of a task in PyTorch and prints one JSON line per run.

    python step.py --task train --way 60 --shot 5 --query 5 --mode compile+channels_last --iterations 20

Modes: eager, channels_last, compile, compile+channels_last; for --task infer also jit and
jit+channels_last; for --task maml also vmap and compile+vmap (the others go from task to task); with
--device cuda a training step also compile+graphs, which replays a step as CUDA graphs.
"""

import argparse
import os
import sys

from measure import DEVICE_TASKS, add_step_flags, images_per_step, run, use_threads

MODES = ("eager", "channels_last", "compile", "compile+channels_last")
CUDA_MODES = ("compile+graphs",)
EXTRA_MODES = {"infer": ("jit", "jit+channels_last"), "maml": ("vmap", "compile+vmap")}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_step_flags(parser)
    parser.add_argument("--mode", default="channels_last", choices=MODES + CUDA_MODES + sum(EXTRA_MODES.values(), ()))
    parser.add_argument(
        "--tf32", choices=("on", "off"), default="on", help="cuda: convolutions may round to TF32, as PyTorch has it by default"
    )
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    if options.mode not in MODES + (CUDA_MODES if on_gpu and options.task != "infer" else ()) + EXTRA_MODES.get(options.task, ()):
        parser.error(f"--mode {options.mode} is not for --task {options.task} with --device {options.device}")
    if on_gpu and options.task not in DEVICE_TASKS:
        parser.error(f"--device cuda is for --task {', '.join(DEVICE_TASKS)}")
    if options.task == "resnet12" and images_per_step(options) <= options.way * options.shot:
        parser.error("--images must exceed way * shot: the rest are the queries")
    restart_tuned(options.threads)
    use_threads(options.threads)

    import torch

    # Before the thread pool starts, so that its threads inherit it.
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    if on_gpu:
        if not torch.cuda.is_available():
            parser.error("--device cuda: PyTorch finds no CUDA device here")
        # All shapes are fixed, so trying the algorithms once is worth it.
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = options.tf32 == "on"
    step = build(options)
    if on_gpu:
        step = finished(step)
    run(step, options, "pytorch", torch.__version__.split("+")[0], options.mode, warm_up=5)


def finished(step):
    """`step`, ending when the GPU has done its work."""
    import torch

    def finished_step():
        loss = step()
        torch.cuda.synchronize()
        return loss

    return finished_step


def build(options):
    """The step of the task in the mode that the options name."""
    import evaluation
    import steps

    parts = options.mode.split("+")
    channels_last, compiled = "channels_last" in parts, "compile" in parts
    if options.task == "infer":
        how = "compile" if compiled else "jit" if "jit" in parts else "eager"
        return steps.inference_step(options, channels_last, how)
    if options.task == "eval":
        return evaluation.evaluation_step(options, channels_last, compiled)
    if options.task == "maml":
        return steps.maml_step(options, channels_last, compiled, by_vmap="vmap" in parts)
    return steps.metric_step(options, channels_last, compiled, graphs="graphs" in parts)


def restart_tuned(threads):
    """Runs this program again with the settings that must stand before a process starts.

    glibc gives big buffers back to the kernel at every free, which then zeroes fresh pages at every
    step: keeping them makes PyTorch faster. Whatever is set already is left alone.
    """
    if os.environ.get("KSHOT_PEER_TUNED"):
        return
    tuned = {
        "KSHOT_PEER_TUNED": "1",
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
        "MALLOC_TOP_PAD_": str(64 << 20),
    }
    os.execve(sys.executable, [sys.executable, *sys.argv], tuned | dict(os.environ))


if __name__ == "__main__":
    main()
