//! A trained encoder as the starting point of another training, of the same method or of another one.

use crate::error::Error;
use crate::learner::Learner;
use crate::named;
use crate::settings::Settings;
use crate::source::Source;

/// Under this name every method keeps its encoder.
const ENCODER: &str = "encoder.";

/// Gives a fresh `learner` the encoder of the trained model ([`Source::find`]) that `--init-encoder` names, if it names
/// one: weights and running averages. Everything else of it stays fresh.
///
/// # Errors
/// A model that can't be read or has another encoder than `settings`, and an encoder without weights.
pub fn init_encoder(settings: &Settings, learner: &mut dyn Learner) -> Result<(), Error> {
    let source = settings.core.text("init-encoder");
    if source.is_empty() {
        return Ok(());
    }
    let mut source = Source::find(source)?;
    if let Some(error) = source.damaged.pop() {
        return Err(error);
    }
    let refused = |problem: String| Error::Setting {
        name: "init-encoder",
        problem,
    };
    let (theirs, ours) = (
        description(&Settings::resolve(&[&source.settings])?),
        description(settings),
    );
    if theirs != ours {
        return Err(refused(format!(
            "the encoder in {} is `{theirs}`, this training's is `{ours}`; give {theirs}",
            source.path.display()
        )));
    }
    let (places, wanted): (Vec<usize>, Vec<_>) = learner
        .parameters()
        .iter()
        .cloned()
        .enumerate()
        .filter(|(_, parameter)| parameter.name.starts_with(ENCODER))
        .unzip();
    if wanted.is_empty() {
        return Err(refused(format!("`{ours}` has no weights to start from")));
    }
    let found = named::to_parameters(&wanted, &source.weights, "", &source.path, learner.device())?;
    let mut values = learner.read();
    for (place, value) in places.into_iter().zip(found) {
        values[place] = value;
    }
    learner.write(&values);
    Ok(())
}

/// The encoder and its options as flags: `--encoder conv4 --filters 64`.
fn description(settings: &Settings) -> String {
    let options = settings.encoder_options.iter();
    std::iter::once(("encoder", settings.encoder.name))
        .chain(options)
        .map(|(name, value)| format!("--{name} {value}"))
        .collect::<Vec<_>>()
        .join(" ")
}
