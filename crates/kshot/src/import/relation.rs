//! The checkpoints of the authors of Relation networks: a pair of state dicts.
//!
//! The encoder's file has `layer1.0.weight` to `layer4.1.running_var`, the relation module's `layer1.0.weight` to
//! `fc2.bias`; in each layer 0 is the convolution and 1 the batch normalisation. Here:
//!
//! - windows lie as [height, width, in, out], theirs as [out, in, height, width];
//! - a convolution has no bias: b shifts the batch mean and the values alike, so that under a batch's own statistics
//!   it is without effect, and running statistics take it as μ − b;
//! - maps are flattened pixel by pixel, theirs channel by channel, which reorders the inputs of `fc1`.
//!
//! Their running averages have a momentum of 1, so they hold the last batch's statistics; the authors test with batch
//! statistics, which is why an imported model is evaluated with `--norm episode` unless told otherwise.

use super::pytorch::StateDict;
use super::{Imported, Importer};
use crate::error::Error;
use crate::named::Named;

pub static IMPORTER: Importer = Importer {
    method: "relation",
    files: "the encoder's and the relation module's state dict, in any order",
    convert,
};

/// Units of the hidden layer.
const HIDDEN: usize = 8;
/// Most filters that the method takes.
const MOST_FILTERS: usize = 1024;
/// Image side and padding of the relation module in the authors' programs for Omniglot and miniImageNet.
const PUBLISHED: [(usize, usize); 2] = [(28, 1), (84, 0)];

fn convert(files: Vec<StateDict>, image_size: Option<usize>) -> Result<Imported, Error> {
    let (mut encoder, mut module) = tell_apart(files)?;
    let [filters, channels, ..] = encoder.shape::<4>("layer1.0.weight")?;
    let [relation_filters, ..] = module.shape::<4>("layer1.0.weight")?;
    for (dict, count) in [(&encoder, filters), (&module, relation_filters)] {
        if !(1..=MOST_FILTERS).contains(&count) {
            return Err(refused(
                dict,
                format!("{count} filters, expected 1 to {MOST_FILTERS}"),
            ));
        }
    }
    if ![1, 3].contains(&channels) {
        let problem = format!("it takes images of {channels} channels, expected 1 or 3");
        return Err(refused(&encoder, problem));
    }
    let inputs = module.shape::<2>("fc1.weight")?[1];
    let Some((side, padding)) = geometry(inputs, relation_filters, image_size) else {
        let sizes = match image_size {
            Some(size) => format!("images of {size}x{size}"),
            None => "images of 28x28 or 84x84, the authors' sizes; give --image-size for another".to_owned(),
        };
        let problem = format!("`fc1.weight` has {inputs} inputs, which does not fit {sizes}");
        return Err(refused(&module, problem));
    };

    let mut weights = Vec::new();
    for layer in 0..4 {
        let c_in = if layer == 0 { channels } else { filters };
        let name = format!("encoder.blocks.{layer}");
        weights.extend(block(&mut encoder, layer, &name, c_in, filters)?);
    }
    for layer in 0..2 {
        let c_in = if layer == 0 { 2 * filters } else { relation_filters };
        let name = format!("blocks.{layer}");
        weights.extend(block(&mut module, layer, &name, c_in, relation_filters)?);
    }
    weights.extend(linear(
        &mut module,
        "fc1",
        "hidden",
        inputs,
        HIDDEN,
        relation_filters,
    )?);
    weights.extend(linear(&mut module, "fc2", "output", HIDDEN, 1, 1)?);
    for dict in [encoder, module] {
        dict.finish(|name| name.ends_with(".num_batches_tracked"))?;
    }

    let mut settings = vec![
        ("method", "relation".to_owned()),
        ("encoder", "relation".to_owned()),
        ("filters", filters.to_string()),
        ("relation-filters", relation_filters.to_string()),
        ("relation-padding", padding.to_string()),
        ("image-size", side.to_string()),
        ("channels", channels.to_string()),
        ("norm", "episode".to_owned()),
        ("episodes", "0".to_owned()),
    ];
    if channels == 1 {
        settings.extend(
            [("data", "omniglot"), ("split", "vinyals"), ("rotations", "all")]
                .map(|(name, value)| (name, value.to_owned())),
        );
    }
    Ok(Imported {
        settings: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        weights,
    })
}

/// The encoder's and the relation module's state dict, which alone has fully connected layers.
fn tell_apart(files: Vec<StateDict>) -> Result<(StateDict, StateDict), Error> {
    let count = files.len();
    let Ok([first, second]) = <[StateDict; 2]>::try_from(files) else {
        return Err(Error::Setting {
            name: "import",
            problem: format!(
                "method relation takes two files, {}, found {count}",
                IMPORTER.files
            ),
        });
    };
    match [&first, &second].map(|dict| dict.has("fc1.weight")) {
        [false, true] => Ok((first, second)),
        [true, false] => Ok((second, first)),
        [both, _] => {
            let which = if both {
                "both files are relation modules"
            } else {
                "neither file is a relation module"
            };
            let problem = format!("{which} (with `fc1.weight`); give {}", IMPORTER.files);
            Err(refused(&second, problem))
        }
    }
}

/// Image side and padding that leave the relation module's last maps as many values as `fc1` has inputs.
fn geometry(inputs: usize, filters: usize, image_size: Option<usize>) -> Option<(usize, usize)> {
    let candidates = match image_size {
        Some(side) => [(side, 1), (side, 0)],
        None => PUBLISHED,
    };
    candidates.into_iter().find(|&(side, padding)| {
        let pooled = |side: usize, padding: usize| (side + 2 * padding).saturating_sub(2) / 2;
        let maps = pooled(pooled(side, 0), 0);
        let last = pooled(pooled(maps, padding), padding);
        last > 0 && last.checked_mul(last).and_then(|n| n.checked_mul(filters)) == Some(inputs)
    })
}

/// A block of ours from `layer{layer + 1}`.
fn block(
    dict: &mut StateDict,
    layer: usize,
    name: &str,
    c_in: usize,
    c_out: usize,
) -> Result<[Named; 5], Error> {
    let mut take = |part: &str, shape: &[usize]| dict.take(&format!("layer{}.{part}", layer + 1), shape);
    let window = take("0.weight", &[c_out, c_in, 3, 3])?;
    let bias = take("0.bias", &[c_out])?;
    let mean = take("1.running_mean", &[c_out])?;
    let named = |part: &str, shape: &[usize], values| Named {
        name: format!("{name}.{part}"),
        shape: shape.to_vec(),
        values,
    };
    Ok([
        named(
            "weight",
            &[3, 3, c_in, c_out],
            channels_last(&window, c_in, c_out),
        ),
        named("gamma", &[c_out], take("1.weight", &[c_out])?),
        named("beta", &[c_out], take("1.bias", &[c_out])?),
        named(
            "running_mean",
            &[c_out],
            mean.iter().zip(&bias).map(|(mean, bias)| mean - bias).collect(),
        ),
        named("running_variance", &[c_out], take("1.running_var", &[c_out])?),
    ])
}

/// `[out, in, 3, 3]` → `[3, 3, in, out]`.
fn channels_last(window: &[f32], c_in: usize, c_out: usize) -> Vec<f32> {
    let place = |tap: usize, input: usize, output: usize| window[(output * c_in + input) * 9 + tap];
    (0..9)
        .flat_map(|tap| {
            (0..c_in).flat_map(move |input| (0..c_out).map(move |output| place(tap, input, output)))
        })
        .collect()
}

/// A fully connected layer, `[outputs, inputs]` → `[inputs, outputs]`; its inputs are maps of `channels`, flattened
/// channel by channel there and pixel by pixel here.
fn linear(
    dict: &mut StateDict,
    theirs: &str,
    ours: &str,
    inputs: usize,
    outputs: usize,
    channels: usize,
) -> Result<[Named; 2], Error> {
    let weight = dict.take(&format!("{theirs}.weight"), &[outputs, inputs])?;
    let bias = dict.take(&format!("{theirs}.bias"), &[outputs])?;
    let pixels = inputs / channels;
    let values = (0..inputs)
        .flat_map(|input| {
            let (pixel, channel) = (input / channels, input % channels);
            (0..outputs).map(move |output| output * inputs + channel * pixels + pixel)
        })
        .map(|place| weight[place])
        .collect();
    Ok([
        Named {
            name: format!("{ours}.weight"),
            shape: vec![inputs, outputs],
            values,
        },
        Named {
            name: format!("{ours}.bias"),
            shape: vec![outputs],
            values: bias,
        },
    ])
}

fn refused(dict: &StateDict, problem: String) -> Error {
    Error::Checkpoint {
        path: dict.path().to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_reordered_one_by_one() {
        // Value 100 * out + 10 * in + tap.
        let window: Vec<f32> = (0..2)
            .flat_map(|out| {
                (0..3).flat_map(move |input| (0..9).map(move |tap| (100 * out + 10 * input + tap) as f32))
            })
            .collect();
        let ours = channels_last(&window, 3, 2);
        assert_eq!(ours[..6], [0.0, 100.0, 10.0, 110.0, 20.0, 120.0]);
        assert_eq!(ours[8 * 6..], [8.0, 108.0, 18.0, 118.0, 28.0, 128.0]);
    }

    #[test]
    fn the_authors_sizes_are_told_by_the_inputs_of_fc1() {
        assert_eq!(geometry(64, 64, None), Some((28, 1)));
        assert_eq!(geometry(576, 64, None), Some((84, 0)));
        assert_eq!(geometry(1024, 64, None), None);
        assert_eq!(geometry(1024, 64, Some(84)), Some((84, 1)));
        assert_eq!(geometry(0, 64, Some(1)), None);
    }
}
