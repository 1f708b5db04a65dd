//! Which cases `KILN_CASE` names: those with it in their name, whatever its case and underscores (`softmax`, `batch_norm`,
//! `MatMul/64`).

/// The elements of `all` whose name has `word` in it, or `Err` with the names that there are.
pub fn choose<T>(word: &str, all: Vec<T>, name: impl Fn(&T) -> &str) -> Result<Vec<T>, String> {
    let plain = |text: &str| text.to_lowercase().replace('_', "");
    let wanted = plain(word);
    let mut names: Vec<String> = all.iter().map(|one| name(one).split('/').next().unwrap_or_default().into()).collect();
    let chosen: Vec<T> = all.into_iter().filter(|one| plain(name(one)).contains(&wanted)).collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    names.sort();
    names.dedup();
    Err(format!("KILN_CASE={word} is in no case's name; they begin with {}", names.join(", ")))
}

/// Those that `KILN_CASE` chooses, all if it is unset.
///
/// # Panics
/// If it chooses none.
pub fn chosen<T>(all: Vec<T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let word = std::env::var("KILN_CASE").unwrap_or_default();
    choose(&word, all, name).unwrap_or_else(|error| panic!("{error}"))
}
