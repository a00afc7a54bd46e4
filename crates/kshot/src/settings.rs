//! Every setting of a training: declared once, given in layers, resolved in one place.
//!
//! Flags, the keys of a configuration file, the help and the resolved file in the run folder all
//! come from [`SETTINGS`] and from what the chosen method, dataset and encoder declare. A layer is
//! a map of names to values as text; later layers win.

mod table;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::augment::Augment;
use crate::data::registry::{self as datasets, DatasetSpec, OpenRequest};
use crate::encoder::{self, EncoderSpec};
use crate::error::Error;
use crate::method::{self, MethodSpec};
use crate::norm::Norm;
use crate::options::{OptionSpec, Options};
use crate::sampler::TaskRange;
use crate::schedule::Schedule;

pub use table::SETTINGS;

/// Names and values as text.
pub type Layer = BTreeMap<String, String>;

/// A training's settings, checked, with the registry entries that they name.
#[derive(Clone)]
pub struct Settings {
    /// The method.
    pub method: &'static MethodSpec,
    /// Its options.
    pub method_options: Options,
    /// The dataset.
    pub dataset: &'static DatasetSpec,
    /// What stood behind its colon.
    pub dataset_argument: String,
    /// Its options.
    pub dataset_options: Options,
    /// The encoder.
    pub encoder: &'static EncoderSpec,
    /// Its options.
    pub encoder_options: Options,
    /// The values of [`SETTINGS`].
    pub core: Options,
}

impl Settings {
    /// Resolves layers, the last of which wins, on top of the method's own defaults.
    ///
    /// # Errors
    /// An unknown name anywhere, or a value that isn't allowed.
    pub fn resolve(layers: &[&Layer]) -> Result<Self, Error> {
        let mut given = Layer::new();
        for layer in layers {
            given.extend(layer.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        let method = method::find(given.get("method").map_or("prototypical", String::as_str))?;
        let mut all: Layer = method
            .defaults
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        all.extend(given);
        let text = |name: &str, default: &str| all.get(name).cloned().unwrap_or_else(|| default.to_owned());
        let data = text("data", "glyphs");
        let (dataset, argument) = datasets::find(&data)?;
        let encoder = encoder::find(&text("encoder", "conv4"))?;
        let groups = [SETTINGS, method.options, dataset.options, encoder.options];
        check_names(&all, &groups, method.name, dataset.name, encoder.name)?;
        let pick = |specs: &[OptionSpec]| -> Result<Options, Error> {
            let chosen = all
                .iter()
                .filter(|(name, _)| specs.iter().any(|spec| spec.name == name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Ok(Options::resolve(specs, &chosen)?)
        };
        let settings = Self {
            method,
            method_options: pick(method.options)?,
            dataset,
            dataset_argument: argument.to_owned(),
            dataset_options: pick(dataset.options)?,
            encoder,
            encoder_options: pick(encoder.options)?,
            core: pick(SETTINGS)?,
        };
        if !settings.dataset.partitions.contains(&settings.partition()) {
            return Err(Error::Unknown {
                what: "split",
                name: settings.partition().to_owned(),
                hint: crate::suggest::hint(settings.partition(), settings.dataset.partitions.iter().copied()),
            });
        }
        for name in [
            "image-size",
            "channels",
            "val-way",
            "val-shot",
            "test-way",
            "test-shot",
        ] {
            settings.number_or_auto(name)?;
        }
        Ok(settings)
    }

    /// Every setting by name, as [`Settings::resolve`] takes them.
    pub fn layer(&self) -> Layer {
        [
            &self.core,
            &self.method_options,
            &self.dataset_options,
            &self.encoder_options,
        ]
        .into_iter()
        .flat_map(Options::iter)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    /// The way to divide the dataset's classes.
    pub fn partition(&self) -> &str {
        match self.core.text("split") {
            "auto" => self.dataset.partitions[0],
            partition => partition,
        }
    }

    /// How to open the dataset.
    ///
    /// # Errors
    /// An encoder in a file of its own that can't be read.
    pub fn open_request(&self) -> Result<OpenRequest, Error> {
        let side = self.number_or_auto("image-size")?;
        let channels = self.number_or_auto("channels")?;
        let external = match &self.encoder.external {
            Some(external) if side.is_none() || channels.is_none() => {
                Some((external.image)(&self.encoder_options)?)
            }
            _ => None,
        };
        let directory = self.core.text("data-dir");
        Ok(OpenRequest {
            argument: self.dataset_argument.clone(),
            data_dir: (!directory.is_empty()).then(|| PathBuf::from(directory)),
            partition: self.partition().to_owned(),
            image_size: side
                .or(external.map(|image| image.height))
                .or(self.encoder.image_size),
            channels: channels.or(external.map(|image| image.channels)),
            seed: self.seed(),
            options: self.dataset_options.clone(),
        })
    }

    /// The tasks of training.
    pub fn train_tasks(&self) -> TaskRange {
        TaskRange {
            n_way: self.core.range("way"),
            n_shot: self.core.range("shot"),
            n_query: self.core.integer("query"),
        }
    }

    /// The tasks of validation.
    ///
    /// # Errors
    /// None after [`Settings::resolve`].
    pub fn val_tasks(&self) -> Result<TaskRange, Error> {
        let n_way = self
            .number_or_auto("val-way")?
            .unwrap_or((*self.core.range("way").end()).min(20));
        let n_shot = self
            .number_or_auto("val-shot")?
            .unwrap_or(*self.core.range("shot").end());
        Ok(TaskRange {
            n_way: exactly(n_way),
            n_shot: exactly(n_shot),
            n_query: self.core.integer("val-query"),
        })
    }

    /// The tasks of the test.
    ///
    /// # Errors
    /// None after [`Settings::resolve`].
    pub fn test_tasks(&self) -> Result<TaskRange, Error> {
        let validation = self.val_tasks()?;
        let n_way = self
            .number_or_auto("test-way")?
            .unwrap_or(*validation.n_way.end());
        let n_shot = self
            .number_or_auto("test-shot")?
            .unwrap_or(*validation.n_shot.end());
        Ok(TaskRange {
            n_way: exactly(n_way),
            n_shot: exactly(n_shot),
            n_query: self.core.integer("test-query"),
        })
    }

    /// The learning rate over time.
    pub fn schedule(&self) -> Schedule {
        match self.core.text("schedule") {
            "halving" => Schedule::Halving {
                every: self.core.integer("halve-every") as u64,
            },
            "linear" => Schedule::Linear {
                episodes: self.core.integer("episodes") as u64,
            },
            "cosine" => Schedule::Cosine {
                episodes: self.core.integer("episodes") as u64,
            },
            _ => Schedule::Constant,
        }
    }

    /// The augmentation of training images.
    pub fn augment(&self) -> Augment {
        let number = |name| self.core.number(name) as f32;
        Augment {
            rotate: number("rotate"),
            shear: number("shear"),
            scale: number("scale"),
            shift: number("shift"),
            elastic: number("elastic"),
            stroke: number("stroke"),
            chance: number("augment-chance"),
        }
    }

    /// The batch-normalisation policy of evaluations.
    pub fn norm(&self) -> Norm {
        if self.core.text("norm") == "episode" {
            Norm::Episode
        } else {
            Norm::Running
        }
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.core.integer("seed") as u64
    }

    fn number_or_auto(&self, name: &'static str) -> Result<Option<usize>, Error> {
        let text = self.core.text(name);
        match text.parse::<usize>() {
            _ if text == "auto" => Ok(None),
            Ok(number) if (1..=100_000).contains(&number) => Ok(Some(number)),
            _ => Err(Error::Setting {
                name,
                problem: format!("expected `auto` or a whole number from 1 to 100000, found `{text}`"),
            }),
        }
    }
}

fn exactly(number: usize) -> RangeInclusive<usize> {
    number..=number
}

fn check_names(
    all: &Layer,
    groups: &[&[OptionSpec]; 4],
    method: &str,
    dataset: &str,
    encoder: &str,
) -> Result<(), Error> {
    let known = || groups.iter().flat_map(|group| group.iter().map(|spec| spec.name));
    match all
        .keys()
        .find(|name| !known().any(|known| known == name.as_str()))
    {
        None => Ok(()),
        Some(name) => {
            let hint = crate::suggest::near(name, known()).unwrap_or_else(|| {
                format!("; method {method}, dataset {dataset} and encoder {encoder} have no such option")
            });
            Err(Error::Unknown {
                what: "setting",
                name: name.clone(),
                hint,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionKind;

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn later_layers_win_and_the_resolved_layer_resolves_to_itself() {
        let file = layer(&[("way", "5"), ("lr", "0.01")]);
        let flags = layer(&[("way", "5-20"), ("distance", "cosine")]);
        let settings = Settings::resolve(&[&file, &flags]).unwrap();
        assert_eq!(settings.train_tasks().n_way, 5..=20);
        assert_eq!(settings.core.number("lr"), 0.01);
        assert_eq!(settings.method_options.text("distance"), "cosine");
        let again = Settings::resolve(&[&settings.layer()]).unwrap();
        assert_eq!(again.layer(), settings.layer());
    }

    #[test]
    fn no_name_is_declared_twice() {
        let mut names: Vec<&str> = SETTINGS.iter().map(|spec| spec.name).collect();
        let all = [
            method::METHODS
                .iter()
                .map(|spec| spec.options)
                .collect::<Vec<_>>(),
            datasets::DATASETS.iter().map(|spec| spec.options).collect(),
            encoder::ENCODERS.iter().map(|spec| spec.options).collect(),
        ];
        for family in all {
            let mut here: Vec<&str> = family
                .iter()
                .flat_map(|specs| specs.iter().map(|spec| spec.name))
                .collect();
            here.sort_unstable();
            here.dedup();
            names.extend(here);
        }
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn what_several_methods_call_alike_takes_the_same_words() {
        // The command line has one flag for it.
        let methods = method::METHODS.iter().flat_map(|spec| spec.options);
        for specs in [methods.collect::<Vec<_>>(), encoders()] {
            for one in &specs {
                for other in specs.iter().filter(|other| other.name == one.name) {
                    match (one.kind, other.kind) {
                        (OptionKind::Choice(one), OptionKind::Choice(other)) => assert_eq!(one, other),
                        (one_kind, other_kind) => assert_eq!(
                            std::mem::discriminant(&one_kind),
                            std::mem::discriminant(&other_kind),
                            "{}",
                            one.name
                        ),
                    }
                }
            }
        }
    }

    fn encoders() -> Vec<&'static OptionSpec> {
        let encoders = encoder::ENCODERS.iter();
        encoders.flat_map(|spec| spec.options).collect()
    }

    #[test]
    fn every_default_and_every_preset_resolves() {
        Settings::resolve(&[]).unwrap();
        for method in method::METHODS {
            for preset in method.presets {
                let mut settings = layer(preset.settings);
                settings.insert("method".into(), method.name.into());
                Settings::resolve(&[&settings]).unwrap();
            }
        }
    }

    #[test]
    fn unknown_names_come_with_a_suggestion() {
        let text = |pairs| Settings::resolve(&[&layer(pairs)]).err().unwrap().to_string();
        assert_eq!(
            text(&[("wai", "5")]),
            "unknown setting `wai`; did you mean `way`?"
        );
        assert_eq!(
            text(&[("method", "protypical")]),
            "unknown method `protypical`; did you mean `prototypical`?"
        );
        assert_eq!(
            text(&[("data", "omniglott")]),
            "unknown dataset `omniglott`; did you mean `omniglot`?"
        );
    }
}
