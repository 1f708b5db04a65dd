//! What pages of HTML are made of that stand alone: no script, no font, no other file.

use super::escaped;

/// A whole page around a body, with the rules of its style.
pub(crate) fn page(title: &str, style: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

/// A table that scrolls where the screen is narrow. The rows are HTML: `<tr><td>..</td></tr>`.
pub(crate) fn table_of(headers: &[&str], rows: impl IntoIterator<Item = String>) -> String {
    let heads: String = headers.iter().map(|header| format!("<th>{}</th>", escaped(header))).collect();
    let rows: String = rows.into_iter().collect();
    format!("<div class=\"wide\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n")
}

/// The same of rows of cells alone: `<td>..</td>`.
pub(crate) fn table(headers: &[&str], rows: impl IntoIterator<Item = String>) -> String {
    table_of(headers, rows.into_iter().map(|row| format!("<tr>{row}</tr>\n")))
}

/// A cell with a text.
pub(crate) fn cell(text: impl AsRef<str>) -> String {
    format!("<td>{}</td>", escaped(text.as_ref()))
}

/// A number with as many digits as count, without zeros behind them; in powers of ten outside of `plain`.
pub(crate) fn rounded(x: f64, digits: i32, plain: std::ops::Range<f64>) -> String {
    let size = x.abs();
    match size {
        _ if !x.is_finite() => x.to_string(),
        0.0 => "0".into(),
        _ if plain.contains(&size) => {
            let places = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
            let text = format!("{x:.places$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
        }
        _ => format!("{x:.3e}"),
    }
}

/// A number as a reader wants it: five digits that count.
pub(crate) fn number(x: f64) -> String {
    rounded(x, 5, 1e-3..1e5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        let shown = [0.0, 1.0, 0.12345678, 98765.4, 1e7, -2.5e-9, f64::NAN].map(number);
        assert_eq!(shown, ["0", "1", "0.12346", "98765", "1.000e7", "-2.500e-9", "NaN"]);
    }
}
