//! Principal components of a few points in many dimensions.
//!
//! The inner products of n centred points, an n × n matrix, have the same leading eigenvectors up to a factor as the
//! covariance of their coordinates, whatever the number of those. Jacobi's rotations give all of its eigenvalues to
//! machine precision without a starting point or a tolerance to choose; for the 150 points of a report that is a few
//! hundredths of a second, and needs no crate.

/// Points in the plane of their first two principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Coordinates of each point, in the units of the points.
    pub points: Vec<[f64; 2]>,
    /// Share of the variance along each component, in `[0, 1]`.
    pub explained: [f64; 2],
}

/// Projects points `[n, dimensions]`, row-major; `None` for fewer than two points, for points that are all the same,
/// or when a coordinate is not finite.
pub fn plane(rows: &[f32], dimensions: usize) -> Option<Plane> {
    let n = rows.len().checked_div(dimensions)?;
    if n < 2 || !rows.iter().all(|value| value.is_finite()) {
        return None;
    }
    let centred = centred(rows, dimensions, n);
    let mut inner = vec![0.0; n * n];
    for row in 0..n {
        for column in 0..=row {
            let product = dot(
                &centred[row * dimensions..(row + 1) * dimensions],
                &centred[column * dimensions..(column + 1) * dimensions],
            );
            inner[row * n + column] = product;
            inner[column * n + row] = product;
        }
    }
    let total: f64 = (0..n).map(|i| inner[i * n + i]).sum();
    if total <= 0.0 || !total.is_finite() {
        return None;
    }
    let vectors = jacobi(&mut inner, n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| inner[b * n + b].total_cmp(&inner[a * n + a]));
    let value = |component: usize| inner[order[component] * n + order[component]].max(0.0);
    let coordinate =
        |component: usize, point: usize| vectors[point * n + order[component]] * value(component).sqrt();
    // An eigenvector's sign is arbitrary: the point farthest out lies on the positive side.
    let sign = |component: usize| {
        let farthest = (0..n)
            .map(|point| coordinate(component, point))
            .fold(
                0.0f64,
                |far, here| if here.abs() > far.abs() + 1e-12 { here } else { far },
            );
        if farthest < 0.0 { -1.0 } else { 1.0 }
    };
    let signs = [sign(0), sign(1)];
    Some(Plane {
        points: (0..n)
            .map(|point| [0, 1].map(|component| signs[component] * coordinate(component, point)))
            .collect(),
        explained: [value(0) / total, value(1) / total],
    })
}

fn centred(rows: &[f32], dimensions: usize, n: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dimensions];
    for row in rows.chunks_exact(dimensions) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += f64::from(*value) / n as f64;
        }
    }
    rows.chunks_exact(dimensions)
        .flat_map(|row| {
            row.iter()
                .zip(&mean)
                .map(|(value, mean)| f64::from(*value) - mean)
        })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes the symmetric `matrix` `[n, n]` diagonal by rotations and gives their product, the eigenvectors as columns
/// (Jacobi 1846; Golub, Van Loan, *Matrix Computations*, section 8.5).
fn jacobi(matrix: &mut [f64], n: usize) -> Vec<f64> {
    const SWEEPS: usize = 30;
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    let scale: f64 = matrix.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS {
        let outside: f64 = (0..n)
            .flat_map(|row| (0..row).map(move |column| (row, column)))
            .map(|(row, column)| matrix[row * n + column].powi(2))
            .sum();
        if outside <= 1e-24 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(matrix, &mut vectors, n, p, q);
            }
        }
    }
    vectors
}

/// One rotation in the plane of `p` and `q`, after which entry (p, q) is zero.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = matrix[p * n + q];
    if off == 0.0 {
        return;
    }
    let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for k in 0..n {
        let (a, b) = (matrix[k * n + p], matrix[k * n + q]);
        matrix[k * n + p] = cosine * a - sine * b;
        matrix[k * n + q] = sine * a + cosine * b;
    }
    for k in 0..n {
        let (a, b) = (matrix[p * n + k], matrix[q * n + k]);
        matrix[p * n + k] = cosine * a - sine * b;
        matrix[q * n + k] = sine * a + cosine * b;
    }
    for k in 0..n {
        let (a, b) = (vectors[k * n + p], vectors[k * n + q]);
        vectors[k * n + p] = cosine * a - sine * b;
        vectors[k * n + q] = sine * a + cosine * b;
    }
}

#[cfg(test)]
mod tests {
    use super::plane;
    use proptest::prelude::*;

    #[test]
    fn a_flat_cloud_is_found_in_its_plane() {
        // Along (1, 1, 1, 1)/2 with −3, −1, 1, 3, and along (1, −1, 1, −1)/2 with ±1: variances 20 to 4.
        let points = [(-3.0, 1.0), (-1.0, -1.0), (1.0, -1.0), (3.0, 1.0)];
        let rows: Vec<f32> = points
            .iter()
            .flat_map(|(a, b)| [(a + b) / 2.0, (a - b) / 2.0, (a + b) / 2.0, (a - b) / 2.0])
            .collect();
        let found = plane(&rows, 4).unwrap();
        assert!((found.explained[0] - 20.0 / 24.0).abs() < 1e-9);
        assert!((found.explained[1] - 4.0 / 24.0).abs() < 1e-9);
        for ((a, b), [x, y]) in points.iter().zip(&found.points) {
            assert!((x.abs() - f64::from(*a).abs()).abs() < 1e-6, "{x} {a}");
            assert!((y.abs() - f64::from(*b).abs()).abs() < 1e-6, "{y} {b}");
        }
        assert!((found.points[0][0] + found.points[3][0]).abs() < 1e-6);
    }

    #[test]
    fn what_has_no_plane_has_none() {
        assert_eq!(plane(&[], 3), None);
        assert_eq!(plane(&[1.0, 2.0], 2), None);
        assert_eq!(plane(&[1.0, 2.0, 1.0, 2.0], 2), None);
        assert_eq!(plane(&[1.0, f32::NAN, 1.0, 2.0], 2), None);
        assert_eq!(plane(&[1.0], 0), None);
    }

    #[test]
    fn points_on_a_line_have_one_component() {
        let found = plane(&[0.0, 1.0, 2.0, 4.0], 1).unwrap();
        assert!((found.explained[0] - 1.0).abs() < 1e-12 && found.explained[1] < 1e-12);
        assert!((found.points[3][0] - 2.25).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn variance_along_the_axes_is_what_is_explained(
            rows in proptest::collection::vec(-10.0f32..10.0, 20 * 6)
        ) {
            let found = plane(&rows, 6).unwrap();
            let mean: Vec<f64> = (0..6)
                .map(|d| rows.iter().skip(d).step_by(6).map(|v| f64::from(*v)).sum::<f64>() / 20.0)
                .collect();
            let total: f64 = rows.iter().enumerate().map(|(i, v)| (f64::from(*v) - mean[i % 6]).powi(2)).sum();
            for axis in 0..2 {
                let along: f64 = found.points.iter().map(|point| point[axis].powi(2)).sum();
                prop_assert!((along / total - found.explained[axis]).abs() < 1e-9);
            }
            let cross: f64 = found.points.iter().map(|point| point[0] * point[1]).sum();
            prop_assert!(cross.abs() < 1e-6 * total);
            prop_assert!(found.explained[0] >= found.explained[1]);
        }
    }
}
