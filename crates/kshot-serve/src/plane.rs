//! The map: embeddings in the plane of their first two principal components.

use kshot::classifier::FewShotClassifier;
use kshot::report::pca;
use serde::Serialize;
use utoipa::ToSchema;

/// Examples from which the plane is found; the others are put into it.
const BASIS: usize = 150;
/// Most examples on the map.
const MOST: usize = 2_000;

/// The examples in two dimensions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Map {
    /// Where each is; at most 2,000, evenly out of all.
    pub points: Vec<Point>,
    /// Examples in all.
    pub of: usize,
    /// Share of the variance along each direction, in `[0, 1]`, of the up to 150 examples that span the plane.
    pub explained: [f64; 2],
    /// Turns an embedding into its place.
    #[serde(skip)]
    plane: Option<Plane>,
}

/// An example's place.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Its class.
    pub class: String,
    /// The example.
    pub id: String,
    /// Along the first direction.
    pub x: f64,
    /// Along the second.
    pub y: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Plane {
    mean: Vec<f64>,
    axes: [Vec<f64>; 2],
}

impl Map {
    /// The map of a classifier's examples. Without two different examples there is
    /// nothing to be seen, and it is empty.
    pub fn of(classifier: &FewShotClassifier) -> Self {
        let all: Vec<(&str, &kshot::classifier::Example)> = classifier
            .classes()
            .flat_map(|class| class.examples().iter().map(|example| (class.name(), example)))
            .collect();
        let basis: Vec<&[f32]> = evenly(&all, BASIS)
            .map(|(_, example)| example.embedding())
            .collect();
        let empty = Self {
            of: all.len(),
            ..Self::default()
        };
        let Some((plane, explained)) = Plane::through(&basis) else {
            return empty;
        };
        let points = evenly(&all, MOST).map(|&(class, example)| {
            let [x, y] = plane.place(example.embedding());
            Point {
                class: class.to_owned(),
                id: example.hash().to_string(),
                x,
                y,
            }
        });
        Self {
            points: points.collect(),
            explained,
            plane: Some(plane),
            ..empty
        }
    }

    /// Where an embedding is on the map, if there is one.
    pub fn place(&self, embedding: &[f32]) -> Option<[f64; 2]> {
        let plane = self
            .plane
            .as_ref()
            .filter(|plane| plane.mean.len() == embedding.len())?;
        Some(plane.place(embedding))
    }
}

impl Plane {
    /// The plane of the first two principal components of rows of one length, and what they explain.
    fn through(rows: &[&[f32]]) -> Option<(Self, [f64; 2])> {
        let features = rows.first()?.len();
        let found = pca::plane(&rows.concat(), features)?;
        let mut mean = vec![0.0; features];
        for row in rows {
            for (mean, value) in mean.iter_mut().zip(*row) {
                *mean += f64::from(*value) / rows.len() as f64;
            }
        }
        // An axis is the sum of the centred rows, each by its coordinate, over the squared length of the coordinates.
        let axis = |component: usize| {
            let squared: f64 = found.points.iter().map(|point| point[component].powi(2)).sum();
            let mut axis = vec![0.0; features];
            if squared > 1e-12 {
                for (row, point) in rows.iter().zip(&found.points) {
                    for ((axis, value), mean) in axis.iter_mut().zip(*row).zip(&mean) {
                        *axis += point[component] / squared * (f64::from(*value) - mean);
                    }
                }
            }
            axis
        };
        let axes = [axis(0), axis(1)];
        Some((Self { mean, axes }, found.explained))
    }

    fn place(&self, embedding: &[f32]) -> [f64; 2] {
        [0, 1].map(|component: usize| {
            let parts = embedding.iter().zip(&self.mean).zip(&self.axes[component]);
            parts
                .map(|((value, mean), axis)| (f64::from(*value) - mean) * axis)
                .sum()
        })
    }
}

/// At most `most` of the items, evenly out of all.
fn evenly<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    let n = items.len().min(most);
    (0..n).map(move |index| &items[index * items.len() / n])
}

#[cfg(test)]
mod tests {
    use super::{Plane, evenly};
    use kshot::report::pca;

    #[test]
    fn the_rows_that_span_the_plane_lie_where_their_components_say() {
        let rows: Vec<Vec<f32>> = (0..12u32)
            .map(|i| {
                (0..5u32)
                    .map(|j| ((i * 7 + j * 13 + i * j * 3) % 11) as f32 - 4.0)
                    .collect()
            })
            .collect();
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let found = pca::plane(&slices.concat(), 5).unwrap();
        let (plane, explained) = Plane::through(&slices).unwrap();
        assert_eq!(explained, found.explained);
        for (row, point) in slices.iter().zip(&found.points) {
            let place = plane.place(row);
            assert!(
                (place[0] - point[0]).abs() < 1e-6 && (place[1] - point[1]).abs() < 1e-6,
                "{place:?} {point:?}"
            );
        }
    }

    #[test]
    fn evenly_takes_all_of_few_and_some_of_many() {
        assert_eq!(evenly(&[1, 2, 3], 5).copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(
            evenly(&[0, 1, 2, 3, 4, 5, 6, 7], 3).copied().collect::<Vec<_>>(),
            [0, 2, 5]
        );
        assert_eq!(evenly::<u8>(&[], 3).count(), 0);
    }
}
