//! Classes, examples and the model as the interface shows them.

use kshot::data::ImageShape;
use serde::Serialize;
use utoipa::ToSchema;

/// A class.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClassEntry {
    /// Its name, which is its address too: `/v1/classes/{name}`.
    pub name: String,
    /// Examples of it; a class may have none.
    pub n_examples: usize,
}

/// An example.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExampleEntry {
    /// Tells its picture by its content.
    pub id: String,
    /// The name of its file, or its place in the request.
    pub name: String,
    /// Its picture as a `data:` address, if that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// Whether the picture is dark ink on light paper, if the picture was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ink: Option<bool>,
}

/// The model that recognises.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelEntry {
    /// What it is called.
    pub name: String,
    /// How it learns from examples.
    pub method: String,
    /// Height, width and channels of the pictures that it sees.
    #[schema(value_type = Object)]
    pub image: ImageShape,
    /// Whether it was trained on line drawings.
    pub line_drawing: bool,
}
