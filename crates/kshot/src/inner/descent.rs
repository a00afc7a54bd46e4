//! The inner descent and its meta-gradient.

use super::points::Points;
use super::{Batch, BatchStatistics, Network, Rates, Weights};

/// Which derivatives a meta-gradient takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The exact gradient, through the inner gradients.
    Second,
    /// As if the inner gradients did not depend on the weights.
    First,
}

/// Gradient descent on the support sets of several tasks.
#[derive(Clone, Copy, Debug)]
pub struct Descent<'a> {
    /// What is evaluated.
    pub network: &'a Network,
    /// How far a step goes.
    pub rates: Rates<'a>,
    /// How many steps.
    pub steps: usize,
}

/// What several tasks say of the point that they started from.
pub struct MetaGradient {
    /// Mean query loss of each task after its descent, `[tasks]`.
    pub losses: Vec<f32>,
    /// The network's outputs for the queries after the descent, `[tasks * n, outputs]`.
    pub outputs: Vec<f32>,
    /// The query loss's gradient with respect to the starting point, of each task.
    pub start: Weights,
    /// With respect to the rates, where each weight has its own.
    pub rates: Option<Weights>,
    /// With respect to the support set's inputs, where asked for.
    pub support: Option<Vec<f32>>,
    /// With respect to the queries' inputs, where asked for.
    pub query: Option<Vec<f32>>,
    /// What the blocks met among the queries.
    pub statistics: Vec<BatchStatistics>,
}

impl Descent<'_> {
    /// θ_K from θ₀ = `start`.
    pub fn run(&self, start: Weights, support: &Batch<'_>) -> Weights {
        self.watched(start, support, &mut |_| ())
    }

    /// As [`Descent::run`]; `watch` sees θ₀ and what each step makes of it.
    pub fn watched(&self, start: Weights, support: &Batch<'_>, watch: &mut dyn FnMut(&Weights)) -> Weights {
        watch(&start);
        (0..self.steps).fold(start, |mut weights, _| {
            self.step(&mut weights, support);
            watch(&weights);
            weights
        })
    }

    /// The gradient of the query loss L_q(θ_K) of each task with respect to θ₀ = `start`; with `want_inputs` also with
    /// respect to the inputs of support set and queries.
    pub fn meta_gradient(
        &self,
        start: Weights,
        support: &Batch<'_>,
        query: &Batch<'_>,
        order: Order,
        want_inputs: bool,
    ) -> MetaGradient {
        let each = matches!(self.rates, Rates::Each(_));
        let looks_back = order == Order::Second || each;
        let mut points = Points::new(self.steps);
        let mut weights = start;
        for step in 0..self.steps {
            if looks_back {
                points.pass(step, &weights);
            }
            self.step(&mut weights, support);
        }
        let last = self.network.gradient(&weights, query, want_inputs);
        drop(weights);
        let mut found = MetaGradient {
            losses: last.losses,
            outputs: last.outputs,
            rates: each.then(|| Weights::zeros_like(&last.gradient)),
            start: last.gradient,
            support: (want_inputs && order == Order::Second).then(|| vec![0.0; support.inputs.len()]),
            query: last.input,
            statistics: last.statistics,
        };
        if looks_back {
            for step in (0..self.steps).rev() {
                let Some(point) = points.take(step, |weights| self.step(weights, support)) else {
                    break;
                };
                self.look_back(&point, support, order, &mut found);
            }
        }
        found
    }

    /// From vₖ₊₁ to vₖ, with what step k adds to the other gradients.
    fn look_back(&self, point: &Weights, support: &Batch<'_>, order: Order, found: &mut MetaGradient) {
        if order == Order::First {
            let slope = self.network.gradient(point, support, false).gradient;
            if let Some(rates) = &mut found.rates {
                rates.subtract_product(&slope, &found.start);
            }
            return;
        }
        let direction = found.start.scaled(self.rates);
        let second = self
            .network
            .curvature(point, support, &direction, found.support.is_some());
        if let Some(rates) = &mut found.rates {
            rates.subtract_product(&second.gradient, &found.start);
        }
        found.start.subtract(&second.product);
        if let (Some(sum), Some(input)) = (&mut found.support, second.input) {
            sum.iter_mut().zip(input).for_each(|(sum, input)| *sum -= input);
        }
    }

    fn step(&self, weights: &mut Weights, support: &Batch<'_>) {
        let gradient = self.network.gradient(weights, support, false).gradient;
        weights.descend(self.rates, &gradient);
    }
}
