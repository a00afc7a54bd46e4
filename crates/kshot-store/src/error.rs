//! What can go wrong with a store.

/// An error of a store: what was expected, what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No store is there.
    #[error("{place}: no store is there; make one by `kshot enroll`")]
    Missing {
        /// What was looked for.
        place: String,
    },
    /// Something is there that isn't a store, or not one that can be read.
    #[error("{place}: {problem}")]
    Unusable {
        /// Which.
        place: String,
        /// What was found and what to do.
        problem: String,
    },
    /// The store's embeddings come from another model.
    #[error(
        "{place}: its classes were enrolled with model {found}, not with {wanted}; enrol with that one, \
         or have every picture embedded anew by --re-embed"
    )]
    OtherModel {
        /// Which.
        place: String,
        /// The store's model.
        found: String,
        /// The model at hand.
        wanted: String,
    },
    /// No model has been put in yet.
    #[error("{place}: holds no model yet; enrol something first")]
    NoModel {
        /// Which.
        place: String,
    },
    /// A class or an example that isn't there, or is there already.
    #[error("{place}: {problem}")]
    Class {
        /// Which.
        place: String,
        /// What was found and what to do.
        problem: String,
    },
    /// A limit on what the store holds.
    #[error("{place}: {what} would be {wanted}, and {limit} are allowed; remove some, or raise the quota")]
    Quota {
        /// Which.
        place: String,
        /// Of what: `examples of class a`, `bytes of pictures`.
        what: String,
        /// With what was to be added.
        wanted: u64,
        /// The quota.
        limit: u64,
    },
    /// There is no room for more; what was to be changed is as it was.
    #[error("{place}: no room left on the disk; nothing was changed")]
    Full {
        /// Which.
        place: String,
    },
    /// The database failed.
    #[error("{place}: {problem}")]
    Database {
        /// Which.
        place: String,
        /// What it said.
        problem: String,
    },
    /// The classifier or the model.
    #[error(transparent)]
    Kshot(#[from] kshot::Error),
}
