//! Compares the output of a run with what was expected. Pure; custom checkers are programs and are
//! run by `custom_checker`.

use super::verdict::Checked;

/// Characters of a word that a reason shows.
const SHOWN: usize = 40;

/// Equal word by word, white space of any kind between them.
pub fn tokens(output: &[u8], expected: &[u8]) -> Checked {
    by_word(output, expected, |ours, theirs| ours == theirs)
}

/// Like [`tokens`], but words that are numbers on both sides may differ by `abs`, or by `rel` of
/// the expected. Not-a-number equals itself only; an infinity equals the same infinity only.
pub fn float(output: &[u8], expected: &[u8], abs: f64, rel: f64) -> Checked {
    by_word(output, expected, |ours, theirs| {
        ours == theirs
            || match (number(ours), number(theirs)) {
                (Some(ours), Some(theirs)) => near(ours, theirs, abs, rel),
                _ => false,
            }
    })
}

/// Equal byte by byte.
pub fn exact(output: &[u8], expected: &[u8]) -> Checked {
    if output == expected {
        return right();
    }
    let same = output.iter().zip(expected).take_while(|(ours, theirs)| ours == theirs).count();
    wrong(if same == output.len() {
        format!("ends after {} of {} bytes", output.len(), expected.len())
    } else if same == expected.len() {
        format!("goes on after the {} expected bytes", expected.len())
    } else {
        format!(
            "byte {} is {:#04x} where {:#04x} was expected",
            same + 1,
            output[same],
            expected[same]
        )
    })
}

/// Equal line by line, white space at line ends and empty lines at the end set aside.
pub fn lines(output: &[u8], expected: &[u8]) -> Checked {
    let (ours, theirs) = (trimmed_lines(output), trimmed_lines(expected));
    for (index, theirs) in theirs.iter().enumerate() {
        match ours.get(index) {
            None => {
                return wrong(format!(
                    "ends after {index} lines where {} was expected",
                    show(theirs)
                ));
            }
            Some(ours) if ours != theirs => {
                return wrong(format!(
                    "line {} is {} where {} was expected",
                    index + 1,
                    show(ours),
                    show(theirs)
                ));
            }
            Some(_) => {}
        }
    }
    match ours.get(theirs.len()) {
        Some(extra) => wrong(format!(
            "line {} is {} where the end was expected",
            theirs.len() + 1,
            show(extra)
        )),
        None => right(),
    }
}

fn trimmed_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

fn by_word(output: &[u8], expected: &[u8], equal: impl Fn(&[u8], &[u8]) -> bool) -> Checked {
    let (mut ours, mut theirs) = (words(output), words(expected));
    let mut number = 1;
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return right(),
            (Some(ours), Some(theirs)) if equal(ours, theirs) => number += 1,
            (ours, theirs) => {
                let shown = |word: Option<&[u8]>| word.map_or("the end".to_owned(), show);
                return wrong(format!(
                    "word {number} is {} where {} was expected",
                    shown(ours),
                    shown(theirs)
                ));
            }
        }
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Vertical tab is white space to C's isspace, which judges' data was made with, not to Rust's.
    text.split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b).filter(|word| !word.is_empty())
}

/// A decimal number, `inf`, `infinity` or `nan`, with any sign and in any case.
fn number(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn near(ours: f64, theirs: f64, abs: f64, rel: f64) -> bool {
    if ours.is_nan() || theirs.is_nan() {
        return ours.is_nan() && theirs.is_nan();
    }
    if ours.is_infinite() || theirs.is_infinite() {
        return ours == theirs;
    }
    let difference = (ours - theirs).abs();
    difference <= abs || difference <= rel * theirs.abs()
}

fn show(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn right() -> Checked {
    Checked { right: true, reason: "the output is right".to_owned(), share: 1.0 }
}

fn wrong(reason: String) -> Checked {
    Checked { right: false, reason, share: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(checked: &Checked) -> &str {
        assert!(!checked.right);
        assert_eq!(checked.share, 0.0);
        &checked.reason
    }

    #[test]
    fn tokens_sets_white_space_aside_and_nothing_else() {
        assert!(tokens(b" 1\t2\r\n\x0b3", b"1 2 3\n").right);
        assert!(tokens(b"", b" \n").right);
        assert_eq!(reason(&tokens(b"1 2 4", b"1 2 3")), "word 3 is `4` where `3` was expected");
        assert_eq!(reason(&tokens(b"1", b"1 2")), "word 2 is the end where `2` was expected");
        assert_eq!(reason(&tokens(b"1 2", b"1")), "word 2 is `2` where the end was expected");
        assert!(!tokens(b"12", b"1 2").right);
        assert!(!tokens(b"1.0", b"1").right);
    }

    #[test]
    fn exact_counts_every_byte() {
        assert!(exact(b"a\n", b"a\n").right);
        assert_eq!(reason(&exact(b"a", b"a\n")), "ends after 1 of 2 bytes");
        assert_eq!(reason(&exact(b"a\n", b"a")), "goes on after the 1 expected bytes");
        assert_eq!(reason(&exact(b"ab", b"ac")), "byte 2 is 0x62 where 0x63 was expected");
    }

    #[test]
    fn lines_sets_line_ends_and_last_empty_lines_aside() {
        assert!(lines(b"a \r\nb\n\n\n", b"a\nb").right);
        assert_eq!(reason(&lines(b" a", b"a")), "line 1 is ` a` where `a` was expected");
        assert_eq!(reason(&lines(b"a\n\nb", b"a\nb")), "line 2 is `` where `b` was expected");
        assert_eq!(reason(&lines(b"a\nb", b"a")), "line 2 is `b` where the end was expected");
        assert_eq!(reason(&lines(b"a", b"a\nb")), "ends after 1 lines where `b` was expected");
    }

    #[test]
    fn float_allows_the_absolute_or_the_relative_difference() {
        assert!(float(b"1.0000001", b"1", 1e-6, 0.0).right);
        assert!(!float(b"1.00001", b"1", 1e-6, 0.0).right);
        assert!(float(b"1000001", b"1000000", 0.0, 1e-5).right);
        assert!(!float(b"1000001", b"1000000", 1e-6, 1e-7).right);
        assert!(float(b"yes 1e3", b"yes 1000.0", 0.0, 0.0).right);
        assert!(!float(b"no 1", b"yes 1", 1e9, 1e9).right, "words that are no numbers");
        assert!(!float(b"1", b"yes", 1e9, 1e9).right);
    }

    #[test]
    fn float_takes_nan_and_infinities_for_equal_to_themselves_alone() {
        assert!(float(b"NaN", b"nan", 1.0, 1.0).right);
        assert!(!float(b"nan", b"1", f64::MAX, f64::MAX).right);
        assert!(!float(b"1", b"nan", f64::MAX, f64::MAX).right);
        assert!(float(b"Infinity", b"inf", 0.0, 0.0).right);
        assert!(!float(b"-inf", b"inf", 1.0, 1.0).right);
        assert!(!float(b"1e308", b"inf", 1.0, 1.0).right);
        assert!(!float(b"inf", b"1", 1.0, 1.0).right);
    }

    #[test]
    fn a_reason_shows_little_of_a_long_or_strange_word() {
        let long = "x".repeat(1000);
        let checked = tokens(long.as_bytes(), b"\xff\x00");
        assert_eq!(
            reason(&checked),
            format!("word 1 is `{}…` where `\u{fffd}\\0` was expected", "x".repeat(40))
        );
    }
}
