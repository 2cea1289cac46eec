//! Two texts, line by line.

/// The first line that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineDifference {
    /// Its number, from 1.
    pub number: usize,
    /// The line before it.
    pub before: Option<String>,
    /// Ours; nothing if our text has ended.
    pub ours: Option<String>,
    /// QEMU's.
    pub theirs: Option<String>,
}

/// The first line that differs.
pub fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<LineDifference> {
    first(&lines(ours), &lines(theirs))
}

/// The first line that differs, if both texts may go on: where the shorter one breaks off is no difference.
pub fn first_difference_before_the_end(ours: &[u8], theirs: &[u8]) -> Option<LineDifference> {
    let len = ours.len().min(theirs.len());
    if ours[..len] == theirs[..len] { None } else { first(&lines(ours), &lines(theirs)) }
}

/// What the two have written, as lines: without the ends of lines, and what is no text made visible.
fn lines(text: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = text
        .split(|&byte| byte == b'\n')
        .map(|line| visible(line.strip_suffix(b"\r").unwrap_or(line)))
        .collect();
    // behind the last end of line nothing need come
    lines.pop_if(|last| last.is_empty());
    lines
}

fn visible(line: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(line).chars() {
        if c.is_control() && c != '\t' { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

fn first(ours: &[String], theirs: &[String]) -> Option<LineDifference> {
    let index = (0..ours.len().max(theirs.len())).find(|&index| ours.get(index) != theirs.get(index))?;
    Some(LineDifference {
        number: index + 1,
        before: index.checked_sub(1).and_then(|before| ours.get(before)).cloned(),
        ours: ours.get(index).cloned(),
        theirs: theirs.get(index).cloned(),
    })
}

impl LineDifference {
    /// The column of the first character that differs, from 0.
    pub fn column(&self) -> usize {
        let (ours, theirs) =
            (self.ours.as_deref().unwrap_or_default(), self.theirs.as_deref().unwrap_or_default());
        ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_told_with_the_one_before() {
        let found = first_difference(b"one\ntwo\nthree\n", b"one\r\ntwo\r\nthrow\r\n").unwrap();
        assert_eq!((found.number, found.before.as_deref(), found.column()), (3, Some("two"), 3));
        assert_eq!((found.ours.as_deref(), found.theirs.as_deref()), (Some("three"), Some("throw")));
        assert_eq!(first_difference(b"one\n", b"one"), None);
    }

    #[test]
    fn a_text_that_ends_early_differs_unless_it_may_go_on() {
        let found = first_difference(b"one\n", b"one\ntwo\n").unwrap();
        assert_eq!((found.number, found.ours, found.theirs.as_deref()), (2, None, Some("two")));
        assert_eq!(first_difference_before_the_end(b"one\n", b"one\ntwo\n"), None);
        assert_eq!(first_difference_before_the_end(b"one\ntw", b"one\ntwo\n"), None);
        assert_eq!(first_difference_before_the_end(b"one\ntx", b"one\ntwo\n").unwrap().number, 2);
    }
}
