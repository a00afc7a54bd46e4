//! What the classifier says of a picture, as the interface shows it.

use kshot::classifier::Answer;
use serde::Serialize;
use utoipa::ToSchema;

use crate::worker::Wish;

/// What a picture is.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Found {
    /// The most probable class; null for none of the classes.
    label: Option<String>,
    /// That it is this class, given that it is one of them; for none of the classes, that it is none.
    probability: f64,
    /// Whether it is one of the classes.
    known: bool,
    /// That it is none of the classes.
    none_probability: f64,
    /// The classes by falling probability, given that it is one of them.
    ranked: Vec<Ranked>,
    /// The examples that decided, by falling weight.
    evidence: Vec<Evidence>,
    /// Where it is on the map, if that was wanted and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<[f64; 2]>,
}

/// A class and its probability.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ranked {
    /// The class.
    label: String,
    /// In `[0, 1]`; they sum to 1 over all classes.
    probability: f64,
}

/// An example that speaks for its class.
#[derive(Debug, Serialize, ToSchema)]
pub struct Evidence {
    /// Its class.
    label: String,
    /// Its name.
    example: String,
    /// Its share of the attention, in `[0, 1]`; they sum to 1 over all examples.
    weight: f64,
    /// Its identifier.
    id: String,
}

impl Found {
    /// A classifier's answer and a place on the map.
    pub fn new(answer: Answer, place: Option<[f64; 2]>) -> Self {
        let ranked = answer.ranked.into_iter().map(|one| Ranked {
            label: one.label,
            probability: one.probability,
        });
        let evidence = answer.evidence.into_iter().map(|one| Evidence {
            label: one.label,
            example: one.example,
            weight: one.weight,
            id: one.hash.to_string(),
        });
        Self {
            label: answer.label,
            probability: answer.probability,
            known: answer.known,
            none_probability: 1.0 - answer.familiar,
            ranked: ranked.collect(),
            evidence: evidence.collect(),
            place,
        }
    }

    /// Leaves out what was not wished for.
    pub fn cut(&mut self, wish: Wish) {
        self.ranked.truncate(wish.show.top);
        self.evidence.truncate(wish.show.evidence);
        self.place = self.place.filter(|_| wish.place);
    }
}
