//! The fully connected layer y = activation(x W + b) of several tasks, each with its own W and b.

/// Sizes of a fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    /// Numbers per example.
    pub inputs: usize,
    /// Numbers per example.
    pub outputs: usize,
    /// Whether max(0, ·) follows.
    pub relu: bool,
}

/// W `[tasks, inputs, outputs]` and b `[tasks, outputs]`, or their directions or gradients.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// Gradients with respect to the input (where asked for), W and b.
pub struct DenseGradients {
    pub input: Option<Vec<f32>>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Dense {
    /// `x` `[tasks * n, inputs]` → `[tasks * n, outputs]`.
    pub fn forward(&self, tasks: usize, x: &[f32], affine: Affine<'_>) -> Vec<f32> {
        let mut y = self.start(tasks, x, affine.bias);
        self.products(tasks, x, affine.weight, &mut y);
        if self.relu {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        y
    }

    /// The output's directional derivative; `y` is [`Dense::forward`]'s output, `dx` the input's direction (`None`: zero).
    pub fn tangent(
        &self,
        tasks: usize,
        (x, dx): (&[f32], Option<&[f32]>),
        affine: Affine<'_>,
        direction: Affine<'_>,
        y: &[f32],
    ) -> Vec<f32> {
        let mut tangent = self.start(tasks, x, direction.bias);
        self.products(tasks, x, direction.weight, &mut tangent);
        if let Some(dx) = dx {
            self.products(tasks, dx, affine.weight, &mut tangent);
        }
        self.gate(y, &mut tangent);
        tangent
    }

    /// Zero where the activation let nothing through.
    pub fn gate(&self, y: &[f32], values: &mut [f32]) {
        if self.relu {
            for (value, y) in values.iter_mut().zip(y) {
                if *y <= 0.0 {
                    *value = 0.0;
                }
            }
        }
    }

    /// Gradients for the gradient `dy` (already gated) of the output.
    pub fn backward(
        &self,
        tasks: usize,
        x: &[f32],
        weight: &[f32],
        dy: &[f32],
        want_input: bool,
    ) -> DenseGradients {
        let mut gradients = DenseGradients {
            input: want_input.then(|| vec![0.0; x.len()]),
            weight: vec![0.0; tasks * self.inputs * self.outputs],
            bias: vec![0.0; tasks * self.outputs],
        };
        self.add_outer(tasks, x, dy, &mut gradients.weight);
        let per_task = (dy.len() / tasks).max(1);
        for (bias, dy) in gradients
            .bias
            .chunks_exact_mut(self.outputs)
            .zip(dy.chunks(per_task))
        {
            for row in dy.chunks_exact(self.outputs) {
                bias.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
            }
        }
        if let Some(dx) = &mut gradients.input {
            self.add_transposed(tasks, dy, weight, dx);
        }
        gradients
    }

    /// `to` += xᵀ dy for each task, `[tasks, inputs, outputs]`.
    pub fn add_outer(&self, tasks: usize, x: &[f32], dy: &[f32], to: &mut [f32]) {
        let rows = x.len() / tasks / self.inputs;
        for (task, to) in to.chunks_exact_mut(self.inputs * self.outputs).enumerate() {
            for row in task * rows..(task + 1) * rows {
                let dy = &dy[row * self.outputs..][..self.outputs];
                let x = &x[row * self.inputs..][..self.inputs];
                for (x, to) in x.iter().zip(to.chunks_exact_mut(self.outputs)) {
                    to.iter_mut().zip(dy).for_each(|(to, dy)| *to += x * dy);
                }
            }
        }
    }

    /// `to` += dy Wᵀ for each task, `[tasks * n, inputs]`.
    pub fn add_transposed(&self, tasks: usize, dy: &[f32], weight: &[f32], to: &mut [f32]) {
        let rows = to.len() / tasks / self.inputs;
        for (row, (to, dy)) in to
            .chunks_exact_mut(self.inputs)
            .zip(dy.chunks_exact(self.outputs))
            .enumerate()
        {
            let weight = self.of(weight, row / rows.max(1));
            for (to, weight) in to.iter_mut().zip(weight.chunks_exact(self.outputs)) {
                *to += weight.iter().zip(dy).map(|(w, dy)| w * dy).sum::<f32>();
            }
        }
    }

    /// The bias of each row's task, `[tasks * n, outputs]`.
    fn start(&self, tasks: usize, x: &[f32], bias: &[f32]) -> Vec<f32> {
        let rows = x.len() / tasks / self.inputs;
        bias.chunks_exact(self.outputs)
            .flat_map(|bias| bias.repeat(rows))
            .collect()
    }

    /// `y` += x W for each task.
    fn products(&self, tasks: usize, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let rows = x.len() / tasks / self.inputs;
        for (row, (y, x)) in y
            .chunks_exact_mut(self.outputs)
            .zip(x.chunks_exact(self.inputs))
            .enumerate()
        {
            let weight = self.of(weight, row / rows.max(1));
            for (x, weight) in x.iter().zip(weight.chunks_exact(self.outputs)) {
                y.iter_mut().zip(weight).for_each(|(y, w)| *y += x * w);
            }
        }
    }

    fn of<'a>(&self, weight: &'a [f32], task: usize) -> &'a [f32] {
        let len = self.inputs * self.outputs;
        &weight[task * len..][..len]
    }
}
