//! Relation networks.
//!
//! F. Sung, Y. Yang, L. Zhang, T. Xiang, P. Torr, T. Hospedales: *Learning to Compare: Relation Network
//! for Few-Shot Learning*, CVPR 2018.
//!
//! The feature *maps* of a class and of a query are concatenated in depth, and a second network, the
//! relation module, gives their relation score r = g([f(xᵢ), f(x̂)]) ∈ [0, 1] (eq. 1). A class of several
//! support images is the element-wise sum of their maps (section 3.2). Training minimises the mean
//! squared error between r and 1 for the query's own class, 0 for the others (eq. 2).
//!
//! The relation module: two blocks of 3×3 convolution, batch norm, ReLU and 2×2 max-pool, then
//! fully connected layers of 8 with ReLU and of 1 with sigmoid (figure 2). Its authors test with batch statistics (`--norm episode`).
//!
//! The first block's convolution of joined maps is computed as the sum of a convolution of each, which is the same and
//! takes each map once instead of once per pair.
//!
//! The authors' programs (github.com/floodsung/LearningToCompare_FSL) turn each episode as a whole by a random quarter turn, in training and test
//! (`--rotations episode`), and test with as many queries per class as shots; they choose the checkpoint by the accuracy on test
//! classes.
//!
//! Deviations: the squared error is averaged over pairs, where equation 2 sums it: the same up to the learning rate's meaning.
//! The fully connected layers begin like every other one here, where the authors' begin with weights of N(0, 0.01²) and biases of
//! 1; gradients are not cut at a norm of 0.5. The checkpoint is chosen on validation classes.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, relu, sigmoid};

use super::common::{STRICT, class_sums, one_hot};
use super::{Batch, Family, Method, MethodRequest, MethodSpec, Objective, Preset, Scores};
use crate::block::ConvBlock;
use crate::data::ImageShape;
use crate::encoder::Encoder;
use crate::episode::{Support, TaskShape};
use crate::error::Error;
use crate::layers::{Linear, check_array, check_sizes};
use crate::learner::{Learner, erase};
use crate::norm::{Norm, Pass};
use crate::ops::conv_block::{Activation, BlockForm};
use crate::options::{OptionKind, OptionSpec};
use crate::reproduce::{Planned, Published, RUNNING, Row, Setup, TRANSDUCTIVE, W5S1, W5S5, W20S1, W20S5};

pub static SPEC: MethodSpec = MethodSpec {
    name: "relation",
    family: Family::Metric,
    paper: "Sung et al. 2018, Learning to Compare: Relation Network for Few-Shot Learning",
    summary: "a network that scores how a query's feature maps relate to a class's",
    options: &[
        OptionSpec {
            name: "relation-filters",
            kind: OptionKind::Integer(1, 1024),
            default: "64",
            help: "filters of the relation module's blocks",
        },
        OptionSpec {
            name: "relation-padding",
            kind: OptionKind::Integer(0, 1),
            default: "1",
            help: "padding of these blocks: 1 on Omniglot, 0 on miniImageNet in the authors' programs",
        },
    ],
    defaults: &[("encoder", "relation"), ("way", "5"), ("query", "15")],
    presets: &[
        Preset {
            name: "paper",
            summary: "the authors' Omniglot protocol: batch statistics in the test too (transductive), Adam 1e-3 \
                      halved every 100,000 of a million episodes; 5-way 1-shot with 19 queries (20-way: 10; 5 shots: 15 and 5), \
                      tested with as many as shots",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "episode"),
                ("norm", "episode"),
                ("schedule", "halving"),
                ("halve-every", "100000"),
                ("query", "19"),
                ("test-query", "1"),
                ("episodes", "1000000"),
                ("val-interval", "5000"),
                ("report-interval", "100"),
            ],
        },
        Preset {
            name: "tuned",
            summary: "the authors' protocol with another training: 20-way, affine augmentation, a cosine schedule and the \
                      average of the weights (5 shots: 5 queries)",
            settings: &[
                ("data", "omniglot"),
                ("split", "vinyals"),
                ("rotations", "episode"),
                ("train-on", "trainval"),
                ("norm", "episode"),
                ("way", "20"),
                ("query", "10"),
                ("test-query", "10"),
                ("episodes", "12000"),
                ("average", "0.999"),
                ("rotate", "10"),
                ("shear", "0.15"),
                ("scale", "0.15"),
                ("shift", "2"),
                ("val-interval", "1000"),
            ],
        },
        STRICT,
    ],
    rows: &[Row {
        variant: "",
        published: Published {
            source: "Sung et al. 2018, table 1",
            protocol: "transductive (each episode's own statistics), one random rotation for all of an episode, as many queries per \
                       class as shots",
            accuracy: &[
                (W5S1, 99.6, 0.2),
                (W5S5, 99.8, 0.1),
                (W20S1, 97.6, 0.2),
                (W20S5, 99.1, 0.1),
            ],
            presentations: &[],
        },
        paper: Setup {
            note: "One 20-way model per number of shots, where the authors train one per column and for hundreds of \
                   thousands of episodes; affine augmentation, a cosine schedule and averaged weights.",
            trainings: &[
                Planned {
                    name: "1-shot",
                    preset: "tuned",
                    common: &[],
                    settings: &[("episodes", "24000"), ("val-interval", "2000")],
                    columns: &[W5S1, W20S1],
                    minutes: 24.0,
                },
                Planned {
                    name: "5-shot",
                    preset: "tuned",
                    common: &[],
                    settings: &[("shot", "5"), ("query", "5"), ("test-query", "5")],
                    columns: &[W5S5, W20S5],
                    minutes: 10.0,
                },
            ],
            tests: &[TRANSDUCTIVE, RUNNING],
        },
        strict: Setup {
            note: "The same trainings.",
            trainings: &[
                Planned {
                    name: "1-shot",
                    preset: "strict",
                    common: &[],
                    settings: STRICT_1_SHOT,
                    columns: &[W5S1, W20S1],
                    minutes: 12.0,
                },
                Planned {
                    name: "5-shot",
                    preset: "strict",
                    common: &[],
                    settings: STRICT_5_SHOT,
                    columns: &[W5S5, W20S5],
                    minutes: 10.0,
                },
            ],
            tests: &[RUNNING],
        },
    }],
    build,
};

/// The tuned training under the strict protocol.
const STRICT_1_SHOT: &[(&str, &str)] = &[
    ("way", "20"),
    ("query", "10"),
    ("episodes", "12000"),
    ("average", "0.999"),
    ("rotate", "10"),
    ("shear", "0.15"),
    ("scale", "0.15"),
    ("shift", "2"),
    ("val-interval", "1000"),
];
const STRICT_5_SHOT: &[(&str, &str)] = &[
    ("way", "20"),
    ("shot", "5"),
    ("query", "5"),
    ("episodes", "12000"),
    ("average", "0.999"),
    ("rotate", "10"),
    ("shear", "0.15"),
    ("scale", "0.15"),
    ("shift", "2"),
    ("val-interval", "1000"),
];

const HIDDEN: usize = 8;

/// The network; see the module.
#[derive(Module, Debug)]
pub struct Relation {
    encoder: Encoder,
    blocks: Vec<ConvBlock>,
    hidden: Linear,
    output: Linear,
    /// Numbers of a pair's maps after the first block.
    #[module(skip)]
    pair: usize,
}

/// An adapted task: the summed maps of each class, `[n_way, height, width, features]`.
pub struct ClassMaps(Tensor<4>);

fn build(request: MethodRequest<'_>) -> Result<Box<dyn Learner>, Error> {
    let MethodRequest {
        encoder,
        maps,
        options,
        device,
        rng,
        most_weights,
        ..
    } = request;
    let filters = options.integer("relation-filters");
    let form = block_form(options.integer("relation-padding"));
    let once = |side: usize| ConvBlock::output_side(side, 3, form);
    let side = |side: usize| once(once(side));
    let (height, width) = (side(maps.height), side(maps.width));
    if height == 0 || width == 0 {
        return Err(Error::Setting {
            name: "encoder",
            problem: format!(
                "the relation module pools twice and needs feature maps of at least {0}x{0}, found {1}x{2}; \
                 take --encoder relation or a larger --image-size",
                if form.padding == 1 { 4 } else { 10 },
                maps.height,
                maps.width
            ),
        });
    }
    check_sizes(most_weights, &[(height * width * filters, HIDDEN)])?;
    let pair = once(maps.height) * once(maps.width) * filters;
    let blocks = vec![
        ConvBlock::new(3, 2 * maps.channels, filters, form, rng, device),
        ConvBlock::new(3, filters, filters, form, rng, device),
    ];
    let hidden = Linear::new(height * width * filters, HIDDEN, rng, device);
    let output = Linear::new(HIDDEN, 1, rng, device);
    Ok(erase(
        Relation {
            encoder,
            blocks,
            hidden,
            output,
            pair,
        },
        device,
    ))
}

/// The form of the relation module's blocks.
fn block_form(padding: usize) -> BlockForm {
    BlockForm {
        padding,
        activation: Activation::Relu,
        pool: true,
    }
}

impl Method for Relation {
    type Task = ClassMaps;

    fn adapt(&self, support: &Support, norm: Norm) -> Result<ClassMaps, Error> {
        let maps = self
            .encoder
            .maps(support.images.clone(), &mut Pass::evaluate(norm));
        Ok(ClassMaps(sum_by_class(maps, &support.labels, support.n_way)))
    }

    fn score(&self, task: &ClassMaps, query: Tensor<4>, norm: Norm) -> Result<Scores, Error> {
        let mut pass = Pass::evaluate(norm);
        let maps = self.encoder.maps(query, &mut pass);
        let odds = self.relate(task.0.clone(), maps, &mut pass);
        Ok(Scores {
            logits: log_sigmoid(odds),
            attention: None,
        })
    }

    fn loss(&self, batch: &Batch, pass: &mut Pass) -> Result<Objective, Error> {
        let n_support = batch.support.labels.len();
        let images = Tensor::cat(vec![batch.support.images.clone(), batch.query.clone()], 0);
        let maps = self.encoder.maps(images, pass);
        let classes = sum_by_class(
            maps.clone().narrow(0, 0, n_support),
            &batch.support.labels,
            batch.support.n_way,
        );
        let query = maps.narrow(0, n_support, batch.query_labels.len());
        let odds = self.relate(classes, query, pass);
        let truth = one_hot(&batch.query_labels, batch.support.n_way, &odds.device());
        let loss = (sigmoid(odds.clone()) - truth).square().mean();
        Ok(Objective {
            loss,
            logits: log_sigmoid(odds),
        })
    }

    fn check_task(&self, task: TaskShape, _together: usize) -> Result<(), Error> {
        check_array(
            "query",
            "the pairs of a task's queries and classes",
            &[
                (task.n_queries(), "queries"),
                (task.n_way, "classes"),
                (self.pair, "numbers of a pair's maps"),
            ],
        )
    }

    fn embed(&self, images: Tensor<4>, norm: Norm) -> Tensor<2> {
        self.encoder.embed(images, &mut Pass::evaluate(norm))
    }
}

impl Relation {
    /// Log-odds of each query's relation to each class: `classes` `[n_way, h, w, c]` and `query`
    /// `[n_query, h, w, c]` → `[n_query, n_way]`.
    fn relate(&self, classes: Tensor<4>, query: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        let (n_way, n_query) = (classes.dims()[0], query.dims()[0]);
        let [first, rest @ ..] = self.blocks.as_slice() else {
            unreachable!("a relation module has two blocks");
        };
        let pairs = first.forward_pairs(classes, query, pass);
        let maps = rest.iter().fold(pairs, |maps, block| block.forward(maps, pass));
        let hidden = relu(self.hidden.forward(maps.flatten(1, 3)));
        self.output.forward(hidden).reshape([n_query, n_way])
    }
}

/// Element-wise sum of the maps of each class: `[n_support, h, w, c]` → `[n_way, h, w, c]`.
fn sum_by_class(maps: Tensor<4>, labels: &[usize], n_way: usize) -> Tensor<4> {
    let ImageShape {
        height,
        width,
        channels,
    } = shape(&maps);
    class_sums(maps.flatten(1, 3), labels, n_way).reshape([n_way, height, width, channels])
}

fn shape(maps: &Tensor<4>) -> ImageShape {
    let [_, height, width, channels] = maps.dims();
    ImageShape {
        height,
        width,
        channels,
    }
}
