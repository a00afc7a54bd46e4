//! The interface, one file per kind of thing.

pub mod classes;
pub mod classify;
pub mod document;
pub mod examples;
pub mod health;
pub mod map;
pub mod samples;
pub mod store;

use axum::extract::Path;
use axum::extract::rejection::{PathRejection, QueryRejection};

use crate::problem::{BAD_REQUEST, Problem};

/// What stands in an address, or why it can't be read.
type InPath<T> = Result<Path<T>, PathRejection>;

fn in_path<T>(path: InPath<T>) -> Result<T, Problem> {
    match path {
        Ok(Path(value)) => Ok(value),
        Err(rejection) => Err(Problem::new(&BAD_REQUEST, rejection.body_text())),
    }
}

fn in_query<T>(query: Result<axum::extract::Query<T>, QueryRejection>) -> Result<T, Problem> {
    match query {
        Ok(axum::extract::Query(value)) => Ok(value),
        Err(rejection) => Err(Problem::new(&BAD_REQUEST, rejection.body_text())),
    }
}
