//! What the library and the store say, as problems of a request.

use kshot_store::StoreError;

use crate::problem::{CONFLICT, INTERNAL, NOT_A_PICTURE, NOT_FOUND, Problem, QUOTA, UNUSABLE};

/// 404 of a class.
pub fn no_class(name: &str) -> Problem {
    Problem::new(&NOT_FOUND, format!("there is no class `{name}`"))
}

/// 404 of an example.
pub fn no_example(class: &str, example: &str) -> Problem {
    Problem::new(&NOT_FOUND, format!("class `{class}` has no example `{example}`"))
}

/// 409 of a name.
pub fn taken(name: &str) -> Problem {
    Problem::new(&CONFLICT, format!("there is a class `{name}` already"))
}

/// An error of the library as the request's problem.
pub fn problem(error: kshot::Error) -> Problem {
    match &error {
        kshot::Error::Data(_) => Problem::new(&NOT_A_PICTURE, error.to_string()),
        kshot::Error::Class { .. } => Problem::new(&UNUSABLE, error.to_string()),
        _ => Problem::internal(error),
    }
}

/// An error of the store as the request's problem.
pub fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::Kshot(error) => problem(error),
        StoreError::Full { .. } => Problem::no_room(),
        StoreError::Quota { .. } => Problem::new(&QUOTA, error.to_string()),
        StoreError::Class { .. } | StoreError::OtherModel { .. } => {
            Problem::new(&CONFLICT, error.to_string())
        }
        error => {
            tracing::error!(%error, "the store failed");
            Problem::new(&INTERNAL, "the store failed; the server's log says how")
        }
    }
}
