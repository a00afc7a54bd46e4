//! Suggestions for mistyped names.

/// `; did you mean `x`?` for the nearest of `known`, else `; there are a, b, c`.
pub fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let nearest = known
        .clone()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((similarity, candidate)) if similarity > 0.8 => format!("; did you mean `{candidate}`?"),
        _ => format!("; there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_lists_all() {
        let known = ["glyphs", "omniglot"];
        assert_eq!(hint("omniglott", known.iter().copied()), "; did you mean `omniglot`?");
        assert_eq!(hint("zzz", known.iter().copied()), "; there are glyphs, omniglot");
    }
}
