//! Suggestions for mistyped names.

/// `; did you mean `x`?` for the nearest of `known`, else `; there are a, b, c`.
pub fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    near(name, known.clone())
        .unwrap_or_else(|| format!("; there are {}", known.collect::<Vec<_>>().join(", ")))
}

/// `; did you mean `x`?` when one of `known` is near.
pub fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.8)
        .map(|(_, candidate)| format!("; did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_lists_all() {
        let known = ["glyphs", "omniglot"];
        assert_eq!(
            hint("omniglott", known.iter().copied()),
            "; did you mean `omniglot`?"
        );
        assert_eq!(hint("zzz", known.iter().copied()), "; there are glyphs, omniglot");
    }
}
