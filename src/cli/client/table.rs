//! Tables for people and for `awk`: columns as wide as they must be, two spaces between them.

/// Lines of a table, the first its heading.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let heading = heading.iter().map(|word| word.to_uppercase()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).collect();
    let width =
        |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// A text on one line, in which nothing is but what can be seen: answers hold words of programs.
pub(in crate::cli) fn plain(text: &str) -> String {
    let shown = |it: char| if it.is_control() && it != '\t' { '\u{fffd}' } else { it };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["1".to_owned(), "äöü".to_owned()], vec!["1234".to_owned(), String::new()]];
        assert_eq!(table(&["id", "name"], &rows), ["ID    NAME", "1     äöü", "1234"]);
    }

    #[test]
    fn nothing_of_a_program_reaches_the_terminal() {
        assert_eq!(plain("a\x1b[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }
}
