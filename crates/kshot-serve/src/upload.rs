//! Pictures out of a request: one as it is, several as a form, or base64 in JSON.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body;
use crate::problem::{BAD_REQUEST, MEDIA_TYPE, Problem, TOO_LARGE};
use crate::state::App;

/// Fields without a file that an error names.
const TOLD: usize = 5;

/// Pictures as they were sent.
#[derive(Debug)]
pub struct Upload {
    /// In the order of the request.
    pub pictures: Vec<Encoded>,
    /// Whether the answer is a list, be it of one.
    pub many: bool,
    _whole: body::Whole,
}

/// One encoded picture.
#[derive(Debug)]
pub struct Encoded {
    /// Its file's name, or its place in the request.
    pub name: String,
    /// PNG, JPEG, WebP or BMP.
    pub bytes: Bytes,
}

/// Pictures in JSON: `image` for one, `images` for many.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InJson {
    /// A picture in base64, or as a `data:` address.
    #[schema(
        example = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAHklEQVR42mNg+A8BDP8ZYAwoiwGKEQQDqgKEnv8MANjRN8l4cIZSAAAAAElFTkSuQmCC"
    )]
    image: Option<String>,
    /// Several pictures in base64, or as `data:` addresses.
    images: Option<Vec<String>>,
}

/// Reads the pictures of a request.
///
/// # Errors
/// Bodies beyond the limits, of another type, or without a picture.
pub async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Upload, Problem> {
    let kind = body::media_type(headers);
    let mut whole = body::read(app, headers, body, app.config.limits.body).await?;
    if ["application/json", "multipart/form-data"].contains(&kind.as_str()) {
        // The form or the texts, and the pictures out of them.
        whole.copied(2)?;
    }
    let (pictures, many) = match kind.as_str() {
        "application/json" => in_json(&whole.bytes)?,
        "multipart/form-data" => in_form(headers, &whole.bytes, app.most_pictures()).await?,
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => one(&whole.bytes),
        kind if kind.starts_with("image/") => one(&whole.bytes),
        kind => {
            return Err(Problem::new(
                &MEDIA_TYPE,
                format!(
                    "`{kind}`: send a picture (image/png, image/jpeg, image/webp, image/bmp), a form (multipart/form-data), or JSON"
                ),
            ));
        }
    };
    check_count(pictures.len(), app.most_pictures())?;
    if pictures.iter().any(|picture| picture.bytes.is_empty()) {
        return Err(Problem::new(&BAD_REQUEST, "a picture is empty: it has no bytes"));
    }
    Ok(Upload {
        pictures,
        many,
        _whole: whole,
    })
}

fn check_count(count: usize, most: usize) -> Result<(), Problem> {
    if count == 0 {
        return Err(Problem::new(&BAD_REQUEST, "the request holds no picture"));
    }
    if count > most {
        return Err(Problem::new(
            &TOO_LARGE,
            format!("more than {most} pictures in one request; send them in several"),
        ));
    }
    Ok(())
}

fn one(bytes: &Bytes) -> (Vec<Encoded>, bool) {
    let name = "the picture".to_owned();
    let bytes = bytes.clone();
    (vec![Encoded { name, bytes }], false)
}

fn in_json(bytes: &[u8]) -> Result<(Vec<Encoded>, bool), Problem> {
    let (texts, many) = match body::parse(bytes)? {
        InJson {
            image: Some(image),
            images: None,
        } => (vec![image], false),
        InJson {
            image: None,
            images: Some(images),
        } => (images, true),
        _ => {
            return Err(Problem::new(
                &BAD_REQUEST,
                "the JSON has either `image`, a picture in base64, or `images`, a list of them",
            ));
        }
    };
    let decode = |(index, text): (usize, String)| {
        let name = format!("picture {}", index + 1);
        let data = match text.strip_prefix("data:") {
            Some(rest) => rest.split_once(";base64,").map(|(_, data)| data).ok_or_else(|| {
                let problem = "is a `data:` address that is not in base64; send `data:image/png;base64,...`";
                Problem::new(&BAD_REQUEST, format!("{name} {problem}"))
            })?,
            None => &text,
        };
        match STANDARD.decode(data.trim()) {
            Ok(bytes) => Ok(Encoded {
                name,
                bytes: bytes.into(),
            }),
            Err(error) => Err(Problem::new(
                &BAD_REQUEST,
                format!("{name} is not base64: {error}"),
            )),
        }
    };
    let pictures = texts
        .into_iter()
        .enumerate()
        .map(decode)
        .collect::<Result<_, _>>()?;
    Ok((pictures, many))
}

/// A form's files; other fields are passed over. A file in a field called `images`, or more than one, asks for a list.
async fn in_form(headers: &HeaderMap, bytes: &Bytes, most: usize) -> Result<(Vec<Encoded>, bool), Problem> {
    let bad = |error: multer::Error| Problem::new(&BAD_REQUEST, format!("the form can't be read: {error}"));
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(bad)?;
    let stream = futures_once(bytes.clone());
    let constraints = Constraints::new().size_limit(SizeLimit::new().whole_stream(bytes.len() as u64));
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let (mut pictures, mut many, mut others) = (Vec::new(), false, Vec::new());
    while let Some(field) = form.next_field().await.map_err(bad)? {
        if !is_file(&field) {
            if others.len() < TOLD {
                others.push(format!("`{}`", clean(field.name().unwrap_or_default())));
            }
            continue;
        }
        let name = field.file_name().filter(|name| !name.is_empty()).map(clean);
        let name = name.unwrap_or_else(|| format!("picture {}", pictures.len() + 1));
        many |= field.name() == Some("images") || !pictures.is_empty();
        check_count(pictures.len() + 1, most)?;
        let bytes = field.bytes().await.map_err(bad)?;
        pictures.push(Encoded { name, bytes });
    }
    if pictures.is_empty() && !others.is_empty() {
        let problem = format!(
            "the form holds no file, only text in {}; with curl: `-F image=@picture.png`",
            others.join(", ")
        );
        return Err(Problem::new(&BAD_REQUEST, problem));
    }
    Ok((pictures, many))
}

/// Whether a form's field is a file, and not text beside it.
fn is_file(field: &Field<'_>) -> bool {
    let kind = field.content_type().map(|kind| kind.essence_str());
    field.file_name().is_some()
        || kind.is_some_and(|kind| kind.starts_with("image/") || kind == "application/octet-stream")
}

/// A file's name without folders and control characters, of at most 100 characters.
fn clean(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(100)
        .collect()
}

/// A stream of one piece.
fn futures_once(bytes: Bytes) -> impl futures_core::Stream<Item = Result<Bytes, Infallible>> + Send + Unpin {
    Once(Some(bytes))
}

struct Once(Option<Bytes>);

impl futures_core::Stream for Once {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}
