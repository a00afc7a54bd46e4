"""What is compared: each case is one set of flags, given alike to both sides."""

from dataclasses import dataclass

MODES = ("eager", "channels_last", "compile", "compile+channels_last")
CUDA_MODES = ("compile+graphs",)
EXTRA_MODES = {"infer": ("jit", "jit+channels_last"), "maml": ("vmap", "compile+vmap")}
ALL_MODES = MODES + CUDA_MODES + sum(EXTRA_MODES.values(), ())
# Cases whose step is written for a GPU on both sides.
ON_DEVICES = ("train", "infer", "resnet12")


@dataclass(frozen=True)
class Case:
    """`flags` choose the work of one step; `iterations` steps make one run."""

    name: str
    says: str
    flags: str
    iterations: int

    @property
    def task(self):
        return self.flags.split()[1]

    def modes(self, device):
        """PyTorch's modes for this task on a device; the best of them is what kshot is measured against."""
        graphs = CUDA_MODES if device == "cuda" and self.task != "infer" else ()
        return MODES + graphs + EXTRA_MODES.get(self.task, ())

    def arguments(self, options):
        """The flags of both sides."""
        iterations = options.iterations or self.iterations
        return [*self.flags.split(), "--iterations", str(iterations), "--threads", str(options.threads)]


CASES = {
    case.name: case
    for case in (
        Case("train-60w5s5q", "metric training step, 600 images", "--task train --way 60 --shot 5 --query 5", 5),
        Case("train-20w5s5q", "metric training step, 200 images", "--task train --way 20 --shot 5 --query 5", 12),
        Case("train-5w1s5q", "metric training step, 30 images", "--task train --way 5 --shot 1 --query 5", 60),
        Case("train-5w1s15q", "metric training step, 80 images", "--task train --way 5 --shot 1 --query 15", 30),
        Case("infer-1", "embedding of 1 image", "--task infer --images 1", 500),
        Case("infer-32", "embedding of 32 images", "--task infer --images 32", 100),
        Case("infer-600", "embedding of 600 images", "--task infer --images 600", 10),
        Case("resnet12", "ResNet-12 training step, 32 images of 84x84x3",
             "--task resnet12 --way 4 --shot 1 --query 7 --images 32", 3),
        *(
            Case(f"eval-{method}", f"evaluation, {method}, 8 episodes of 20-way 1-shot 15-query",
                 f"--task eval --method {method} --way 20 --shot 1 --query 15 --tasks 8", steps)
            for method, steps in (("prototypical", 4), ("siamese", 4), ("matching", 4), ("relation", 2))
        ),
        Case("maml-32x1", "exact MAML, 32 tasks of 5-way 1-shot 1-query, 1 inner step",
             "--task maml --way 5 --shot 1 --query 1 --tasks 32 --inner-steps 1", 3),
        Case("maml-4x5", "exact MAML, 4 tasks of 5-way 1-shot 15-query, 5 inner steps",
             "--task maml --way 5 --shot 1 --query 15 --tasks 4 --inner-steps 5", 3),
    )
}  # fmt: skip
